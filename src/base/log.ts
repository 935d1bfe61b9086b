// What the daemon tells a person, and where. The sink is chosen once, in daemon.ts: lines on stderr as the reference prints
// them, or pino JSON.

export interface Logger {
  /** Something failed: `PROGRAM: MESSAGE`. */
  error(message: string, fields?: LogFields): void;
  /** Something is odd: `PROGRAM: warning: MESSAGE`. */
  warn(message: string, fields?: LogFields): void;
  /** Worth knowing when looking for a fault; not printed as a line by default. */
  debug(message: string, fields?: LogFields): void;
}

/**
 * `hint`, where there is one, is printed on a line of its own; with `bare` the message stands without the program's name. The
 * other fields only JSON logs show.
 */
export type LogFields = Readonly<Record<string, unknown>>;

/** What is being worked on while options are processed: it stands between the program's name and the message. */
export type LogLocation =
  | { readonly kind: 'none' }
  | { readonly kind: 'option'; readonly words: string }
  | { readonly kind: 'file'; readonly path: string; readonly line?: number };

/** A logger of the whole process, which knows where messages come from and writes trace points, too. */
export interface ProcessLogger extends Logger {
  location: LogLocation;
  /** Something that `createTrace` hands over. */
  trace(name: string, fields: LogFields): void;
}

export const silentLogger: Logger = { error() {}, warn() {}, debug() {} };

/**
 * Lines as the reference prints them: `PROGRAM: --OPTION ARGUMENT: MESSAGE`.
 *
 * @param write takes whole lines, line end included
 */
export function createLineLogger(program: string, write: (line: string) => void): ProcessLogger {
  const say = (kind: string, message: string, fields: LogFields | undefined) => {
    const hint = typeof fields?.['hint'] === 'string' ? `${fields['hint']}\n` : '';
    const start = fields?.['bare'] === true ? '' : `${program}${locationText(logger.location)}`;
    write(`${start}${kind}${message}\n${hint}`);
  };
  const logger: ProcessLogger = {
    location: { kind: 'none' },
    error: (message, fields) => say('', message, fields),
    warn: (message, fields) => say('warning: ', message, fields),
    debug() {},
    trace: (name, fields) => write(traceLine(name, fields)),
  };
  return logger;
}

/** A trace point as the reference's log backend prints it: `PID@SECONDS.MICROSECONDS:NAME FIELD=VALUE ...`. */
export function traceLine(name: string, fields: LogFields, now: number = Date.now()): string {
  const texts = Object.entries(fields).map(([key, value]) => ` ${key}=${String(value)}`);
  return `${process.pid}@${(now / 1000).toFixed(6)}:${name}${texts.join('')}\n`;
}

/** What stands between the program's name and a message. */
export function locationText(location: LogLocation): string {
  switch (location.kind) {
    case 'none':
      return ': ';
    case 'option':
      return `: ${location.words}: `;
    case 'file':
      return location.line === undefined
        ? `:${location.path}: `
        : `:${location.path}:${location.line}: `;
  }
}

/** Says something that happened on its own, and not because of the option that is being processed. */
export function sayWithoutLocation(log: Logger, say: (log: Logger) => void): void {
  const located = log as Partial<ProcessLogger>;
  const { location } = located;
  if (location !== undefined) located.location = { kind: 'none' };
  say(log);
  if (location !== undefined) located.location = location;
}
