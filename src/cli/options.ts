// The options, as a table, and the two passes over them: the first for those that concern the process, the second for those
// that build the daemon, strictly from left to right.

import type { ProcessLogger } from '../base/log.ts';
import type { Trace } from '../base/trace.ts';
import { QmpError } from '../qapi/errors.ts';
import { type OptionSpec, scanWords } from './getopt.ts';
import { helpText } from './help.ts';
import { parseKeyval } from './keyval.ts';
import { objectHelp } from './object-help.ts';
import type { OptionTypes } from './option-value.ts';
import { optionValue } from './option-value.ts';
import { applyTraceOption } from './trace-option.ts';
import { versionText } from './version.ts';

const optionSpecs = [
  { name: 'blockdev', argument: 'required' },
  { name: 'chardev', argument: 'required' },
  { name: 'daemonize', argument: 'none' },
  { name: 'export', argument: 'required' },
  { name: 'help', short: 'h', argument: 'none' },
  { name: 'monitor', argument: 'required' },
  { name: 'nbd-server', argument: 'required' },
  { name: 'object', argument: 'required' },
  { name: 'pidfile', argument: 'required' },
  { name: 'trace', short: 'T', argument: 'required' },
  { name: 'version', short: 'V', argument: 'none' },
] as const satisfies readonly OptionSpec[];

type OptionName = (typeof optionSpecs)[number]['name'];

/** The program ends here: print, and exit. */
export interface Ending {
  readonly exitCode: number;
  readonly output?: string;
}

/** What the first pass finds out. */
export type ProcessOptions =
  | { readonly ending: Ending }
  | { readonly ending?: undefined; readonly daemonize: boolean; readonly pidfile?: string };

/** What the second pass builds. */
export interface OptionTarget {
  readonly log: ProcessLogger;
  readonly trace: Trace;
  /** Where trace points go from now on. Throws QmpError. */
  setTraceFile(path: string): void;
  addBlockdev(options: OptionTypes['BlockdevOptions']): Promise<void>;
  addExport(options: OptionTypes['BlockExportOptions']): Promise<void>;
  addMonitor(options: OptionTypes['MonitorOptions']): void;
  startNbdServer(options: OptionTypes['NbdServerOptions']): Promise<void>;
  addObject(options: OptionTypes['ObjectOptions']): Promise<void>;
  /** Takes the option's text; answers what to print when it asks for help. */
  addChardev(text: string): Promise<Ending | undefined>;
}

type Apply = (argument: string, target: OptionTarget) => Promise<Ending | undefined>;

/** Options of the second pass. */
const builders = {
  trace: async (argument, target) => {
    const { print, file, failed } = applyTraceOption(argument, target.trace, target.log);
    if (failed) return { exitCode: 1 };
    if (print) return { exitCode: print.exitCode, output: print.text };
    if (file !== undefined) target.setTraceFile(file);
    return undefined;
  },
  blockdev: async (argument, target) => {
    await target.addBlockdev(await optionValue(argument, 'BlockdevOptions', 'driver'));
    return undefined;
  },
  chardev: (argument, target) => target.addChardev(argument),
  export: async (argument, target) => {
    await target.addExport(await optionValue(argument, 'BlockExportOptions', 'type'));
    return undefined;
  },
  monitor: async (argument, target) => {
    target.addMonitor(await optionValue(argument, 'MonitorOptions', 'chardev'));
    return undefined;
  },
  'nbd-server': async (argument, target) => {
    await target.startNbdServer(await optionValue(argument, 'NbdServerOptions', undefined));
    return undefined;
  },
  object: async (argument, target) => {
    if (!argument.startsWith('{')) {
      const { help, values } = parseKeyval(argument, 'qom-type');
      if (help) return { exitCode: 0, output: objectHelp(values['qom-type']) };
    }
    await target.addObject(await optionValue(argument, 'ObjectOptions', 'qom-type'));
    return undefined;
  },
} satisfies { readonly [Name in OptionName]?: Apply };

/** The first pass. Reports mistakes in the options themselves. */
export function processOptions(
  words: readonly string[],
  program: string,
  log: ProcessLogger,
): ProcessOptions {
  let daemonize = false;
  let pidfile: string | undefined;
  for (const word of scanWords(words, optionSpecs)) {
    if (word.kind === 'error') {
      log.error(word.message);
      return { ending: { exitCode: 1 } };
    }
    if (word.kind !== 'option') continue;
    if (word.name === 'help') return { ending: { exitCode: 0, output: helpText(program) } };
    if (word.name === 'version') return { ending: { exitCode: 0, output: versionText(program) } };
    if (word.name === 'daemonize') daemonize = true;
    if (word.name === 'pidfile') pidfile = word.argument;
  }
  return { daemonize, ...(pidfile === undefined ? {} : { pidfile }) };
}

/** The second pass. Reports what fails; an ending means that the daemon must not go on. */
export async function buildFromOptions(
  words: readonly string[],
  target: OptionTarget,
): Promise<Ending | undefined> {
  const { log } = target;
  try {
    for (const word of scanWords(words, optionSpecs)) {
      if (word.kind === 'error') throw new Error(word.message);
      log.location = { kind: 'option', words: word.location };
      if (word.kind === 'word') {
        log.error('Unexpected argument');
        return { exitCode: 1 };
      }
      const build: Apply | undefined = Object.hasOwn(builders, word.name)
        ? builders[word.name as keyof typeof builders]
        : undefined;
      const ending = await build?.(word.argument ?? '', target);
      if (ending) return ending;
    }
    return undefined;
  } catch (error) {
    reportFailure(error, log);
    return { exitCode: 1 };
  } finally {
    log.location = { kind: 'none' };
  }
}

/** An error of the command line: its text, and its hint below it. */
export function reportFailure(error: unknown, log: ProcessLogger): void {
  if (error instanceof QmpError) {
    log.error(error.desc, error.hint === undefined ? {} : { hint: error.hint });
  } else {
    log.error(error instanceof Error ? error.message : String(error), { err: error });
  }
}
