// An NBD server that answers requests as a test says, rightly or wrongly, and a graph with a node that is its client.

import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { Logger } from '../../../../../src/base/log.ts';
import { createTrace } from '../../../../../src/base/trace.ts';
import { BlockGraph } from '../../../../../src/block/block-graph.ts';
import type { BlockNode } from '../../../../../src/block/block-node.ts';
import type { BlockdevOptions } from '../../../../../src/qapi/generated/types.ts';
import { allocate } from '../../../../../src/sys/memory.ts';
import { Poller } from '../../../../../src/sys/poller.ts';
import { tempDir } from '../../../../helpers/temp-dir.ts';
import {
  ABORT,
  ack,
  context,
  EXTENDED_HEADERS,
  error,
  exportInfo,
  GO,
  greeting,
  info,
  NAME,
  SET_META_CONTEXT,
  STRUCTURED_REPLY,
  u16,
  u32,
  u64,
} from './server-bytes.ts';

export const READ = 0;
export const WRITE = 1;
export const DISC = 2;
export const FLUSH = 3;
export const TRIM = 4;
export const CACHE = 5;
export const WRITE_ZEROES = 6;
export const BLOCK_STATUS = 7;

export interface SeenRequest {
  readonly type: number;
  readonly flags: number;
  readonly cookie: Buffer;
  readonly offset: number;
  readonly length: number;
  /** Of a write. */
  readonly data: Buffer;
}

export interface ServedConnection {
  send(bytes: Buffer): void;
  /** Sends this and hangs up. */
  hangUp(bytes?: Buffer): void;
}

export interface Script {
  readonly headers?: 'simple' | 'structured' | 'extended';
  readonly size?: number;
  /** NBD_FLAG_*; all but read-only when absent. */
  readonly flags?: number;
  /** Minimum, preferred, maximum. */
  readonly blockSizes?: readonly [number, number, number];
  /** Whether there is a context, which is the one that is asked for, with the id 7. */
  readonly hasContext?: boolean;
  /** What is said first, when it is not the fixed newstyle's greeting. */
  readonly greeting?: Buffer;
  /** What is said to an option, by its number, when it is not the right answer. */
  readonly options?: Readonly<Record<number, Buffer>>;
  /** Hangs up behind `greeting`, or behind the first of `options` that was asked for. */
  readonly hangsUp?: boolean;
  /** Called for each connection with its number, from 0; false hangs up before a word is said. */
  readonly greets?: (connection: number) => boolean;
  /** Accepts connections, and says nothing. */
  readonly isSilent?: boolean;
  /** Writes are answered before their data have come. */
  readonly answersEarly?: boolean;
  readonly answer?: (request: SeenRequest, to: ServedConnection) => void;
}

/** NBD_FLAG_HAS_FLAGS and FLUSH, FUA, TRIM, WRITE_ZEROES, DF, CACHE, FAST_ZERO. */
export const ALL_FLAGS = 0b1100_1110_1101;
export const CONTEXT_ID = 7;

/** In bytes. */
const REQUEST_SIZE = 28;
const EXTENDED_REQUEST_SIZE = 32;
const RESERVED_SIZE = 124;

export class ScriptedServer {
  readonly path: string;
  script: Script;
  readonly requests: SeenRequest[] = [];
  /** The options that clients asked for, in order. */
  readonly options: number[] = [];
  connections = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #changed: () => void = () => {};

  constructor(path: string, script: Script) {
    this.path = path;
    this.script = script;
    this.#server = createServer((socket) => this.#serve(socket));
  }

  listen(): Promise<void> {
    return new Promise((resolve) => this.#server.listen(this.path, resolve));
  }

  /** Hangs up on everybody; new ones may come. */
  hangUp(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Hangs up, and nobody can connect any more. */
  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.hangUp();
    await closed;
  }

  /** Resolves when `isSo`; it is asked whenever something happened. */
  async until(isSo: () => boolean): Promise<void> {
    while (!isSo()) {
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
  }

  get open(): number {
    return this.#sockets.size;
  }

  #serve(socket: Socket): void {
    const number = this.connections++;
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#sockets.delete(socket);
      this.#changed();
    });
    if (this.script.greets?.(number) === false) {
      socket.destroy();
      return;
    }
    const { script } = this;
    const received = (bytes: Buffer): void => connection.received(bytes);
    const served: ServedConnection = {
      // Even a write of nothing fails when the client has gone, and its last words would not be read.
      send: (bytes) => {
        if (bytes.length > 0) socket.write(bytes);
      },
      hangUp: (bytes = Buffer.alloc(0)) => {
        socket.off('data', received).resume();
        socket.end(bytes);
      },
    };
    const connection = new Conversation(script, served);
    connection.onOption = (option) => this.options.push(option);
    connection.onRequest = (request) => {
      this.requests.push(request);
      this.script.answer?.(request, served);
      this.#changed();
    };
    socket.on('data', received);
    if (script.isSilent !== true) connection.greet();
    this.#changed();
  }
}

/** What requests begin with; options begin otherwise. */
const REQUEST_MAGICS: readonly number[] = [0x25609513, 0x21e41c71];
const IHAVEOPT = 0x49484156;

/** Flags of the greeting and its answer. */
const NO_ZEROES = 2;

/** One connection's side of the protocol, as far as it is not the test's. */
class Conversation {
  onOption: (option: number) => void = () => {};
  onRequest: (request: SeenRequest) => void = () => {};
  readonly #script: Script;
  readonly #to: ServedConnection;
  #input = Buffer.alloc(0);
  #clientFlags: number | undefined;

  constructor(script: Script, to: ServedConnection) {
    this.#script = script;
    this.#to = to;
  }

  greet(): void {
    const { greeting: other, hangsUp = false, options } = this.#script;
    if (hangsUp && options === undefined) this.#to.hangUp(other);
    else this.#to.send(other ?? greeting(3));
  }

  received(bytes: Buffer): void {
    this.#input = Buffer.concat([this.#input, bytes]);
    while (this.#advance());
  }

  #advance(): boolean {
    if (this.#input.length < 4) return false;
    const magic = this.#input.readUInt32BE(0);
    if (REQUEST_MAGICS.includes(magic)) return this.#request();
    if (magic === IHAVEOPT) return this.#option();
    this.#clientFlags = this.#take(4)?.readUInt32BE(0);
    return true;
  }

  #option(): boolean {
    if (this.#input.length < 16) return false;
    const bytes = this.#take(16 + this.#input.readUInt32BE(12));
    if (bytes === undefined) return false;
    const option = bytes.readUInt32BE(8);
    this.onOption(option);
    const wrong = this.#script.options?.[option];
    if (wrong === undefined) this.#to.send(this.#rightAnswer(option, bytes.subarray(16)));
    else if (this.#script.hangsUp === true) this.#to.hangUp(wrong);
    else this.#to.send(wrong);
    return true;
  }

  #rightAnswer(option: number, data: Buffer): Buffer {
    const { headers = 'structured', hasContext = true, blockSizes } = this.#script;
    const { size = 1 << 20, flags = ALL_FLAGS } = this.#script;
    switch (option) {
      case EXTENDED_HEADERS:
        return headers === 'extended' ? ack(option) : error(option, 1);
      case STRUCTURED_REPLY:
        return headers === 'structured' ? ack(option) : error(option, 1);
      case SET_META_CONTEXT: {
        const name = data.subarray(4 + data.readUInt32BE(0) + 8).toString();
        return Buffer.concat([...(hasContext ? [context(CONTEXT_ID, name)] : []), ack(option)]);
      }
      case GO: {
        const sizes = blockSizes === undefined ? [] : [info(3, Buffer.concat(blockSizes.map(u32)))];
        return Buffer.concat([...sizes, exportInfo(size, flags), ack(option)]);
      }
      case NAME: {
        const zeroes = ((this.#clientFlags ?? 0) & NO_ZEROES) === 0 ? RESERVED_SIZE : 0;
        return Buffer.concat([u64(size), u16(flags), Buffer.alloc(zeroes)]);
      }
      // Not a word to NBD_OPT_ABORT: its sender does not wait for one.
      default:
        return option === ABORT ? Buffer.alloc(0) : error(option, 1);
    }
  }

  #request(): boolean {
    const isExtended = this.#script.headers === 'extended';
    const headerSize = isExtended ? EXTENDED_REQUEST_SIZE : REQUEST_SIZE;
    if (this.#input.length < headerSize) return false;
    const type = this.#input.readUInt16BE(6);
    const length = isExtended
      ? Number(this.#input.readBigUInt64BE(24))
      : this.#input.readUInt32BE(24);
    const hasData = type === WRITE && this.#script.answersEarly !== true;
    const bytes = this.#take(headerSize + (hasData ? length : 0));
    if (bytes === undefined) return false;
    this.onRequest({
      type,
      flags: bytes.readUInt16BE(4),
      cookie: bytes.subarray(8, 16),
      offset: Number(bytes.readBigUInt64BE(16)),
      length,
      data: bytes.subarray(headerSize),
    });
    return true;
  }

  #take(length: number): Buffer | undefined {
    if (this.#input.length < length) return undefined;
    const bytes = this.#input.subarray(0, length);
    this.#input = this.#input.subarray(length);
    return bytes;
  }
}

export interface Bench {
  readonly server: ScriptedServer;
  readonly graph: BlockGraph;
  readonly node: BlockNode;
  /** What was logged as errors. */
  readonly logged: readonly string[];
}

/** A graph without nodes, and what is logged of it. */
export function liveGraph(): { graph: BlockGraph; logged: string[] } {
  const logged: string[] = [];
  const log: Logger = { error: (text) => logged.push(text), warn() {}, debug() {} };
  const poller = new Poller();
  const graph = new BlockGraph({
    log,
    trace: createTrace(),
    poller,
    objects: { find: () => undefined },
    events: { emit() {} },
    allocate,
  });
  onTestFinished(async () => {
    await graph.close();
    poller.close();
  });
  return { graph, logged };
}

export async function startServer(script: Script): Promise<ScriptedServer> {
  const server = new ScriptedServer(join(tempDir(), 'nbd.sock'), script);
  await server.listen();
  // Before the graph closes its nodes: their last words need no answer then.
  onTestFinished(() => server.stop());
  return server;
}

/** A node of the server's export. */
export async function clientOf(script: Script, options: object = {}): Promise<Bench> {
  const { graph, logged } = liveGraph();
  const server = await startServer(script);
  const node = await graph.add(optionsFor(server, options));
  return { server, graph, node, logged };
}

export function optionsFor(server: ScriptedServer, more: object = {}): BlockdevOptions {
  const address = { type: 'unix', path: server.path };
  return {
    driver: 'nbd',
    'node-name': 'n',
    server: address,
    discard: 'unmap',
    ...more,
  } as BlockdevOptions;
}
