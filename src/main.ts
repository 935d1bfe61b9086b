// argv -> daemon: the process around it, with its signals, its pidfile and its exit code.

import path from 'node:path';
import { createLineLogger, type ProcessLogger } from './base/log.ts';
import { createJsonLogger, jsonLogLevel } from './base/log-json.ts';
import { createAnnouncements } from './cli/announcements.ts';
import { type BackgroundProcess, enterBackground } from './cli/background.ts';
import { daemonTarget } from './cli/daemon-target.ts';
import { buildFromOptions, type Ending, processOptions, reportFailure } from './cli/options.ts';
import { createPidfile, type Pidfile } from './cli/pidfile.ts';
import { packageName, programName } from './cli/version.ts';
import { writeAll } from './cli/write-all.ts';
import { Daemon } from './daemon.ts';

const STDOUT = 1;
const STDERR = 2;
const FAILURE = 1;
const ENDING_SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;
/** Longest delay that a timer takes, in milliseconds. */
const FOREVER_MS = 2 ** 31 - 1;

async function run(words: readonly string[], program: string): Promise<number> {
  const background = enterBackground();
  const log = await createLogger(program);
  const options = processOptions(words, program, log);
  if (options.ending) return conclude(options.ending);
  if (options.daemonize && background === undefined) {
    const { startInBackground } = await import('./cli/daemonize.ts');
    return startInBackground();
  }
  const announcements = createAnnouncements(
    (text) => writeAll(STDOUT, text),
    // To import it would cost every start 2 ms.
    () => process.getBuiltinModule('node:tty').isatty(STDOUT),
  );
  const daemon = new Daemon({
    log,
    packageName,
    daemonized: background !== undefined,
    print: (text) => announcements.print(text),
    printNow: (text) => announcements.printNow(text),
  });
  survive(log);
  // Nothing else need keep the process alive: standard input may end, and there may be no monitor at all.
  const alive = setInterval(() => {}, FOREVER_MS);
  let pidfile: Pidfile | undefined;
  try {
    const stopped = stopSignal();
    const ending = await Promise.race([
      start(words, daemon, options.pidfile, background).then((outcome) => {
        pidfile = outcome.pidfile;
        return outcome.ending;
      }),
      stopped.then(() => ({ exitCode: 0 })),
    ]);
    // The first command need not wait for this.
    if (ending === undefined) void daemon.load();
    if (ending !== undefined || !daemon.chardevs.hasStdio) announcements.release();
    if (ending === undefined) await Promise.race([stopped, daemon.ended]);
    await daemon.close();
    return ending === undefined ? 0 : conclude(ending);
  } catch (error) {
    log.error(`Unexpected error: ${textOf(error)}`, { err: error });
    return FAILURE;
  } finally {
    clearInterval(alive);
    pidfile?.remove();
  }
}

interface StartOutcome {
  readonly ending?: Ending | undefined;
  readonly pidfile?: Pidfile | undefined;
}

/** The second pass, then the pidfile, which tells that everything is ready, then the background. */
async function start(
  words: readonly string[],
  daemon: Daemon,
  pidfilePath: string | undefined,
  background: BackgroundProcess | undefined,
): Promise<StartOutcome> {
  const ending = await buildFromOptions(words, daemonTarget(daemon));
  if (ending) return { ending };
  let pidfile: Pidfile | undefined;
  try {
    pidfile = pidfilePath === undefined ? undefined : createPidfile(pidfilePath);
    background?.ready();
    daemon.start();
    return { pidfile };
  } catch (error) {
    reportFailure(error, daemon.log);
    return { ending: { exitCode: FAILURE }, pidfile };
  }
}

/** A fault of the program in one place must not take the exports of all others down: it is reported, and the rest goes on. */
function survive(log: ProcessLogger): void {
  const report = (error: unknown) => {
    log.error(`Unexpected error: ${textOf(error)}`, { err: error });
  };
  process.on('uncaughtException', report);
  process.on('unhandledRejection', report);
}

function textOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

/** Resolves at the first signal that ends the daemon. SIGUSR1 is left without effect: Node would start its debugger. */
function stopSignal(): Promise<void> {
  process.on('SIGUSR1', () => {});
  return new Promise((resolve) => {
    for (const signal of ENDING_SIGNALS) process.on(signal, () => resolve());
  });
}

/** Lines on stderr, or JSON when QSD_LOG asks for it. */
async function createLogger(program: string): Promise<ProcessLogger> {
  const write = (line: string) => writeAll(STDERR, line);
  const lines = createLineLogger(program, write);
  try {
    const level = jsonLogLevel(process.env['QSD_LOG']);
    return level === undefined ? lines : await createJsonLogger({ program, level, write });
  } catch (error) {
    reportFailure(error, lines);
    return lines;
  }
}

function conclude({ output, exitCode }: Ending): number {
  if (output !== undefined) writeAll(STDOUT, output);
  return exitCode;
}

/** The name the program was called by; of the bundle or the source itself, the project's. */
function programNameOf(script: string | undefined): string {
  const called = path.basename(script ?? '');
  return called === '' || /^main\.[jt]s$/.test(called) ? programName : called;
}

void run(process.argv.slice(2), programNameOf(process.argv[1])).then((code) => process.exit(code));
