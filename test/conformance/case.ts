// What a conformance case is: steps that are sent to a daemon, as plain values, and short builders for them. A case says
// nothing about the right answer; that is what the reference says.

import type { FileCall } from '../helpers/fuse.ts';
import type { SmallQcow2 } from '../helpers/small-qcow2.ts';

/** A daemon with its files, and the cases that are put to it one after the other. */
export interface Group {
  readonly name: string;
  readonly files?: readonly FileSetup[];
  /** Command line after the monitor's own; `@DIR@` is the group's directory. */
  readonly arguments?: readonly string[];
  /** `socket`: each case has a connection of its own, so broken input does not reach the next case. */
  readonly monitor?: 'stdio' | 'socket' | 'pretty';
  /** The command line of another daemon of the same kind, in the same directory, that is there before this one. */
  readonly peer?: readonly string[];
  /** False: the cases negotiate themselves. */
  readonly negotiated?: boolean;
  /** False where the lines on stderr depend on timing. */
  readonly stderr?: boolean;
  /** How long an answer is waited for, where the reference is known to give none. */
  readonly patienceMs?: number;
  readonly cases: readonly Case[];
}

/** One run of the program with its own arguments, apart from any group. */
export interface CommandLineCase {
  readonly id: string;
  readonly arguments: readonly string[];
  readonly stdin?: string;
  readonly files?: readonly FileSetup[];
  /** Keep only the lines of stdout that match. */
  readonly keep?: RegExp;
}

export interface Area {
  readonly name: string;
  /** Why the cases cannot be put to anybody on this machine. */
  readonly missing?: string | undefined;
  /** Why the answers depend on the machine: they are compared with the running reference, not recorded. */
  readonly live?: string;
  readonly groups?: readonly Group[];
  readonly commandLines?: readonly CommandLineCase[];
}

export interface Case {
  readonly id: string;
  readonly steps: readonly Step[];
}

export interface FileSetup {
  readonly name: string;
  /** Bytes; a hole but for `fill`. */
  readonly length?: number;
  readonly fill?: readonly (readonly [offset: number, length: number, byte: number])[];
  readonly text?: string;
  /** A small image of that kind instead. */
  readonly qcow2?: SmallQcow2;
  readonly mode?: number;
  /** What to make instead of a regular file. */
  readonly kind?: 'directory' | 'fifo' | 'symlink';
  /** Where a symlink leads. */
  readonly target?: string;
}

/** What is waited for: that nothing comes for a moment, so many objects or bytes, or the end of the connection. */
export type Heard = 'nothing' | 'the end' | number;

export type Step =
  | { readonly do: 'command'; readonly line: string; readonly on: string }
  /** Asks until the answer has this in it: for what the daemon notices without telling. */
  | {
      readonly do: 'command until';
      readonly line: string;
      readonly on: string;
      readonly has: string;
    }
  | { readonly do: 'raw'; readonly bytes: Uint8Array; readonly on: string }
  | { readonly do: 'send'; readonly bytes: Uint8Array; readonly on: string }
  | { readonly do: 'monitor'; readonly path: string; readonly as: string }
  | { readonly do: 'hang up'; readonly on: string }
  | {
      readonly do: 'event';
      readonly name: string;
      readonly on: string;
      /** Part of the event that is waited for. */
      readonly containing?: string;
      /** It is not waited for where the case's last command was refused, or the event came before the answer. */
      readonly unlessOver?: true;
    }
  | { readonly do: 'exit' }
  | { readonly do: 'signal'; readonly signal: NodeJS.Signals }
  | { readonly do: 'listen'; readonly on: string; readonly hears: Heard }
  | { readonly do: 'nbd'; readonly path: string; readonly as: string; readonly flags: number }
  | {
      readonly do: 'option';
      readonly on: string;
      readonly option: number;
      readonly payload: Uint8Array;
      readonly magic?: bigint;
      readonly claims?: number;
    }
  | {
      readonly do: 'export name';
      readonly on: string;
      readonly name: string;
      readonly zeroes: boolean;
    }
  | {
      readonly do: 'tls';
      readonly on: string;
      /** A fixture in test/fixtures/tls, or none. */
      readonly certificate?: string;
      readonly psk?: { readonly user: string; readonly key: string };
      readonly version?: 'TLSv1.2' | 'TLSv1.3';
    }
  | { readonly do: 'requests'; readonly on: string; readonly requests: readonly Request[] }
  | {
      readonly do: 'bytes';
      readonly on: string;
      readonly bytes: Uint8Array;
      readonly hears: Heard;
    }
  | { readonly do: 'all'; readonly steps: readonly Step[] }
  | { readonly do: 'drop'; readonly on: string }
  | { readonly do: 'inspect'; readonly file: string }
  | { readonly do: 'file calls'; readonly file: string; readonly calls: readonly FileCall[] }
  | { readonly do: 'stat'; readonly file: string }
  | { readonly do: 'write file'; readonly file: string; readonly text: string }
  | { readonly do: 'read file'; readonly file: string }
  | { readonly do: 'remove file'; readonly file: string };

export interface Request {
  readonly type: number;
  readonly flags?: number;
  readonly offset?: number | bigint;
  readonly length?: number;
  readonly payload?: Uint8Array;
  readonly magic?: number;
}

/** One command, named by its own text. */
export function ask(command: string, args?: unknown): Case {
  const line = commandLine(command, args);
  return { id: shortened(line), steps: [{ do: 'command', line, on: 'main' }] };
}

/** A case of several steps. Strings are commands without arguments, pairs are commands with arguments. */
export function scene(id: string, ...steps: readonly (Step | string | CommandPair)[]): Case {
  return { id, steps: steps.map(toStep) };
}

export type CommandPair = readonly [command: string, args: unknown, on?: string];

function toStep(step: Step | string | CommandPair): Step {
  if (typeof step === 'string') return { do: 'command', line: commandLine(step), on: 'main' };
  if (!isPair(step)) return step;
  const [command, args, on = 'main'] = step;
  return { do: 'command', line: commandLine(command, args), on };
}

function isPair(step: Step | CommandPair): step is CommandPair {
  return Array.isArray(step);
}

/** Bytes as they are, to the monitor. Text is sent as UTF-8, `\xNN` in names is for the reader only. */
export function raw(bytes: string | Uint8Array, on = 'main'): Step {
  return { do: 'raw', bytes: typeof bytes === 'string' ? Buffer.from(bytes) : bytes, on };
}

/** Bytes to the monitor without waiting for anything. */
export function send(bytes: string, on = 'main'): Step {
  return { do: 'send', bytes: Buffer.from(bytes), on };
}

/** A case that is one piece of raw input, named by it. */
export function bytes(input: string | Uint8Array, id?: string): Case {
  const step = raw(input);
  const text = typeof input === 'string' ? input : Buffer.from(input).toString('latin1');
  return { id: id ?? shortened(JSON.stringify(text)), steps: [step] };
}

export function commandLine(command: string, args?: unknown, id?: unknown): string {
  return stringify({
    execute: command,
    ...(args === undefined ? {} : { arguments: args }),
    ...(id === undefined ? {} : { id }),
  });
}

/** JSON text; a bigint is written as its digits, a Verbatim as it is. */
function stringify(value: unknown): string {
  if (typeof value === 'bigint') return value.toString();
  if (value instanceof Verbatim) return value.text;
  if (Array.isArray(value)) return `[${value.map(stringify).join(',')}]`;
  if (typeof value === 'object' && value !== null) {
    const members = Object.entries(value).map(([k, v]) => `${JSON.stringify(k)}:${stringify(v)}`);
    return `{${members.join(',')}}`;
  }
  return JSON.stringify(value);
}

class Verbatim {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

/** A JSON number or text that JavaScript would spell otherwise: `1.0`, `1e3`. */
export function verbatim(text: string): unknown {
  return new Verbatim(text);
}

const MAXIMUM_ID = 160;

function shortened(text: string): string {
  const id = text.replace(/^\{"execute":"([^"]*)"(?:,"arguments":(.*))?\}$/s, '$1 $2').trim();
  return id.length <= MAXIMUM_ID ? id : `${id.slice(0, MAXIMUM_ID - 20)}… (${id.length})`;
}
