// --trace [[enable=]PATTERN][,events=FILE][,file=FILE]: which trace points are on, and where they go.

import { readFileSync } from 'node:fs';
import { strerror } from '../base/errno.ts';
import { globMatches } from '../base/glob.ts';
import type { ProcessLogger } from '../base/log.ts';
import { type Trace, type TracePoint, tracePointNames } from '../base/trace.ts';
import { parseQemuOpts, type QemuOptsList, qemuOptsHelp } from './qemu-opts.ts';

const traceOptions: QemuOptsList = {
  name: 'trace',
  impliedKey: 'enable',
  options: { enable: 'str', events: 'str', file: 'str' },
};

export interface TraceOptionOutcome {
  /** To print, and then to end with `exitCode`. */
  readonly print?: { readonly text: string; readonly exitCode: number };
  /** Where trace points go from now on. */
  readonly file?: string;
  /** `events=` could not be read: reported, and the program ends. */
  readonly failed?: true;
}

/** Carries out one --trace option. Throws QmpError for a malformed one. */
export function applyTraceOption(
  text: string,
  trace: Trace,
  log: ProcessLogger,
): TraceOptionOutcome {
  const opts = parseQemuOpts(text, traceOptions, log);
  if (opts === 'help') return { print: { text: qemuOptsHelp(traceOptions), exitCode: 1 } };
  const pattern = opts.get('enable');
  if (pattern === 'help' || pattern === '?') {
    return { print: { text: traceHelp(), exitCode: 0 } };
  }
  if (pattern !== undefined) enableMatching(pattern, trace, log);
  const events = opts.get('events');
  if (events !== undefined && !enableFromFile(events, trace, log)) return { failed: true };
  const file = opts.get('file');
  return file === undefined ? {} : { file };
}

/** The names, one a line, as `-T help` prints them. */
export function traceHelp(): string {
  return Object.keys(tracePointNames)
    .map((name) => `${name}\n`)
    .join('');
}

/** Switches the points that match `pattern` on, or off when it starts with `-`. */
function enableMatching(pattern: string, trace: Trace, log: ProcessLogger): void {
  const enable = !pattern.startsWith('-');
  const name = enable ? pattern : pattern.slice(1);
  const points: TracePoint[] = Object.values(trace).filter((point) =>
    globMatches(name, point.name),
  );
  for (const point of points) point.enabled = enable;
  if (points.length === 0 && !name.includes('*')) {
    log.warn(`trace event '${name}' does not exist`);
  }
}

/** A pattern a line; empty lines and those that start with `#` count for nothing. */
function enableFromFile(path: string, trace: Trace, log: ProcessLogger): boolean {
  const outer = log.location;
  try {
    const lines = linesOf(readFileSync(path, 'latin1'));
    for (const [index, line] of lines.entries()) {
      log.location = { kind: 'file', path, line: index + 1 };
      if (line !== '' && !line.startsWith('#')) enableMatching(line, trace, log);
    }
    return true;
  } catch (error) {
    const { errno, code } = error as NodeJS.ErrnoException;
    if (errno === undefined) throw error;
    // A directory is opened like a file, and has no lines.
    if (code === 'EISDIR') return true;
    log.location = { kind: 'file', path };
    log.error(strerror(-errno));
    return false;
  } finally {
    log.location = outer;
  }
}

function linesOf(text: string): string[] {
  const lines = text.split('\n');
  if (lines.at(-1) === '') lines.pop();
  return lines;
}
