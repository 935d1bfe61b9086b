// What a handshake has agreed on so far, and the means its options work with: taking their data, and replying.

import type { Trace } from '../../base/trace.ts';
import { NBD_REP_ERR_INVALID, nameOfOption } from '../../net/nbd/protocol.ts';
import { encodeOptionReply } from '../../net/nbd/wire.ts';
import type { MetaContext } from './meta-context.ts';
import type { NbdExport } from './nbd-export.ts';

/** What a handshake waits for: bytes (with their name, for the log), or only for room in the output. */
export interface Step {
  readonly length: number;
  readonly what: string | undefined;
  /** Goes on when the connection is under TLS, with all bytes from then on. */
  readonly startTls?: true;
}

/** A part of the handshake: yields steps, gets the bytes of each, valid until it yields again. */
export type Steps<T> = Generator<Step, T, Buffer>;

/** Pieces in which data that nobody wants are received, in bytes. */
const DROP_PIECE = 64 * 1024;

const ROOM: Step = { length: 0, what: undefined };

export const START_TLS: Step = { length: 0, what: undefined, startTls: true };

/** What a handshake ends with. */
export interface Negotiated {
  readonly export: NbdExport;
  readonly structuredReply: boolean;
  /** Only together with structuredReply. */
  readonly extendedHeaders: boolean;
  /** Bytes of the smallest block, which the client said that it would obey; 1 when it did not. */
  readonly alignment: number;
  /** In the order of their ids; only those selected for this very export. */
  readonly contexts: readonly MetaContext[];
}

/** The exports that a client can see. */
export interface ExportDirectory {
  /** In the order of their creation. */
  list(): Iterable<NbdExport>;
  find(wireName: string): NbdExport | undefined;
}

/** The peer broke the rules of the handshake; the connection ends. The text is the reference's. */
export class HandshakeError extends Error {
  override readonly name = 'HandshakeError';
}

/** An option that is answered with an error; the handshake goes on. The text is the reference's. */
export class OptionRefusal extends Error {
  override readonly name = 'OptionRefusal';
  /** NBD_REP_ERR_* */
  readonly reply: number;

  constructor(reply: number, text: string) {
    super(text);
    this.reply = reply;
  }

  static inconsistent(option: number): OptionRefusal {
    return invalid(`Inconsistent lengths in option ${nameOfOption(option)}`);
  }

  static unexpectedLength(option: number): OptionRefusal {
    return invalid(`option '${nameOfOption(option)}' has unexpected length`);
  }
}

/** A refusal because of what the option's data say. */
export function invalid(text: string): OptionRefusal {
  return new OptionRefusal(NBD_REP_ERR_INVALID, text);
}

/** What has been agreed on so far, and what the options of options.ts work with. */
export class Handshake {
  readonly exports: ExportDirectory;
  readonly trace: Trace;
  fixedNewstyle = false;
  noZeroes = false;
  structuredReply = false;
  /** Only together with structuredReply. */
  extendedHeaders = false;
  /** Whether the server wants TLS and the client has not begun it: nothing else is allowed then. */
  tls: 'none' | 'required' | 'on';
  /** What NBD_OPT_SET_META_CONTEXT selected last, and for which export. */
  selection: { readonly export: NbdExport; readonly contexts: readonly MetaContext[] } | undefined;
  /** The option being negotiated, and how many bytes of its data have not been received. */
  option = 0;
  left = 0;
  readonly #send: (bytes: Buffer) => void;

  constructor(options: {
    readonly exports: ExportDirectory;
    readonly trace: Trace;
    readonly tls: 'none' | 'required';
    readonly send: (bytes: Buffer) => void;
  }) {
    this.exports = options.exports;
    this.trace = options.trace;
    this.tls = options.tls;
    this.#send = options.send;
  }

  /** Sends a reply to the present option. */
  *reply(type: number, data?: Buffer): Steps<void> {
    this.#send(encodeOptionReply(this.option, type, data));
    yield ROOM;
  }

  /** Sends bytes that have no reply header. */
  sendRaw(bytes: Buffer): void {
    this.#send(bytes);
  }

  /** The next `length` bytes of the present option's data. Throws OptionRefusal when it has no more. */
  *take(length: number, what?: string): Steps<Buffer> {
    if (length > this.left) throw OptionRefusal.inconsistent(this.option);
    this.left -= length;
    return yield { length, what };
  }

  /** Receives `length` bytes of the present option's data for nothing. */
  *drop(length: number): Steps<void> {
    if (length > this.left) throw OptionRefusal.inconsistent(this.option);
    let rest = length;
    this.left -= length;
    while (rest > 0) {
      const piece = Math.min(rest, DROP_PIECE);
      yield { length: piece, what: undefined };
      rest -= piece;
    }
  }

  /** The end of the handshake with an export. */
  choose(chosen: NbdExport, alignment = 1): Negotiated {
    return {
      export: chosen,
      alignment,
      structuredReply: this.structuredReply,
      extendedHeaders: this.extendedHeaders,
      contexts: this.contextsFor(chosen),
    };
  }

  /** What is selected for an export. */
  contextsFor(chosen: NbdExport): readonly MetaContext[] {
    return this.selection?.export === chosen ? this.selection.contexts : [];
  }
}
