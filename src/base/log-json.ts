// The other sink of log.ts: pino, one JSON object a line. Loaded only when it is asked for.

import type { LogFields, ProcessLogger } from './log.ts';
import { locationText } from './log.ts';

const jsonLogLevels = ['error', 'warn', 'debug', 'trace'] as const;
export type JsonLogLevel = (typeof jsonLogLevels)[number];

export interface JsonLoggerOptions {
  readonly program: string;
  /** Messages below it are left out. */
  readonly level: JsonLogLevel;
  /** Takes whole lines. */
  readonly write: (line: string) => void;
}

export async function createJsonLogger(options: JsonLoggerOptions): Promise<ProcessLogger> {
  const { pino } = await import('pino');
  const { program, level, write } = options;
  const sink = pino({ name: program, level }, { write });
  const withLocation = (fields: LogFields = {}): LogFields =>
    logger.location.kind === 'none'
      ? fields
      : { at: locationText(logger.location).replace(/^: ?|: $/g, ''), ...fields };
  const logger: ProcessLogger = {
    location: { kind: 'none' },
    error: (message, fields) => sink.error(withLocation(fields), message),
    warn: (message, fields) => sink.warn(withLocation(fields), message),
    debug: (message, fields) => sink.debug(withLocation(fields), message),
    trace: (name, fields) => sink.info({ trace: name, ...fields }),
  };
  return logger;
}

/** The level that `QSD_LOG=json[:LEVEL]` asks for; undefined when lines are wanted. Throws for anything else. */
export function jsonLogLevel(setting: string | undefined): JsonLogLevel | undefined {
  if (setting === undefined || setting === '') return undefined;
  const match = /^json(?::(.*))?$/.exec(setting);
  const level = match === null ? undefined : (match[1] ?? 'warn');
  const known = jsonLogLevels.find((name) => name === level);
  if (known === undefined) {
    throw new Error(
      `QSD_LOG must be json or json:LEVEL (${jsonLogLevels.join(', ')}), not '${setting}'`,
    );
  }
  return known;
}
