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

export type LogFields = Readonly<Record<string, unknown>>;

export const silentLogger: Logger = { error() {}, warn() {}, debug() {} };
