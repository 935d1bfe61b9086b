// The server that hostile peers are let loose on, a well-behaved client whose rate is measured, and what must hold when they
// are gone.

import { connect, type Socket } from 'node:net';
import { expect, onTestFinished } from 'vitest';
import { waitUntil } from '../conformance/daemon-process.ts';
import { encodeRequest, NbdPeer } from '../conformance/nbd-peer.ts';
import { goPayload, NBD_CMD_READ, NBD_OPT_GO, u32 } from '../conformance/wire-steps.ts';
import { exported, type Served, serve } from '../interop/serve.ts';

export const MIB = 1024 * 1024;
export const IMAGE_SIZE = 64 * MIB;
/** What every byte of the image is at first. */
export const IMAGE_BYTE = 0x5a;

const SETTLE_LIMIT_MS = 30_000;

/** A daemon with a writable export `ex` of an image full of IMAGE_BYTE. It ends with the test. */
export async function startHostileServer(nbdServer = ''): Promise<HostileServer> {
  const served = await serve({
    files: [{ name: 'a.img', length: IMAGE_SIZE, fill: [[0, IMAGE_SIZE, IMAGE_BYTE]] }],
    arguments: exported('a.img'),
  });
  onTestFinished(async () => {
    await served.daemon.stop();
  });
  if (nbdServer !== '') {
    await served.qmp.expect('nbd-server-stop');
    await served.qmp.expect('nbd-server-start', {
      addr: { type: 'unix', data: { path: served.socket } },
      ...(JSON.parse(nbdServer) as object),
    });
    const add = { type: 'nbd', id: 'e', 'node-name': 'f', name: 'ex', writable: true };
    await served.qmp.expect('block-export-add', add);
  }
  return new HostileServer(served);
}

export class HostileServer {
  readonly served: Served;
  readonly socket: string;
  readonly #descriptors: number;
  readonly #peers: NbdPeer[] = [];

  constructor(served: Served) {
    this.served = served;
    this.socket = served.socket;
    this.#descriptors = served.daemon.openDescriptors();
  }

  /** A connection that has not said anything. */
  async connect(): Promise<NbdPeer> {
    const peer = await NbdPeer.connect(this.socket);
    this.#peers.push(peer);
    return peer;
  }

  /** A connection in the transmission phase, with simple replies. */
  async enter(): Promise<NbdPeer> {
    const peer = await this.connect();
    await peer.greet(3);
    peer.sendOption(NBD_OPT_GO, goPayload('ex', []));
    expect((await peer.optionReplies()).at(-1)).toBe('option 7 reply 0x1');
    return peer;
  }

  async enterMany(count: number): Promise<NbdPeer[]> {
    return Promise.all(Array.from({ length: count }, async () => this.enter()));
  }

  /** Closes all connections made here. */
  leave(): void {
    for (const peer of this.#peers.splice(0)) peer.close();
  }

  /** Kilobytes resident now. */
  resident(): number {
    return this.served.daemon.residentKilobytes();
  }

  /** A fresh client is served. */
  async expectWell(): Promise<void> {
    const peer = await this.enter();
    const [answer] = await peer.requests([
      { type: NBD_CMD_READ, offset: IMAGE_SIZE - 4, length: 4 },
    ]);
    expect(answer).toMatch(/^simple error 0 /);
    peer.close();
  }

  /** Every peer is gone: no descriptor is left, nothing was printed that looks like a fault, and the daemon ends in order. */
  async expectUnharmed(): Promise<void> {
    await this.expectWell();
    this.leave();
    const { daemon } = this.served;
    await waitUntil(() => daemon.openDescriptors() <= this.#descriptors, SETTLE_LIMIT_MS);
    expect(daemon.stderr).not.toMatch(/\bat .*:\d+:\d+\)|unhandled|uncaught|unexpected failure/i);
    expect(await daemon.stop()).toBe('<exit 0>');
  }
}

const READ_LENGTH = 16 * 1024;
const DEPTH = 8;

/** A client that reads all the time, with a few requests under way. */
export class Reader {
  readonly #socket: Socket;
  #received = 0;
  #replies = 0;
  readonly #request = Buffer.from(
    encodeRequest({ type: NBD_CMD_READ, offset: 0, length: READ_LENGTH }, 5n),
  );

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  static async start(path: string): Promise<Reader> {
    const socket = connect(path);
    socket.on('error', () => {});
    onTestFinished(() => {
      socket.destroy();
    });
    const payload = goPayload('ex', []);
    // The greeting; NBD_INFO_EXPORT and NBD_INFO_BLOCK_SIZE in whatever order; the acknowledgement.
    const replies = 18 + (20 + 12) + (20 + 14) + 20;
    socket.write(
      Buffer.concat([
        u32(3),
        Buffer.from('IHAVEOPT'),
        u32(NBD_OPT_GO),
        u32(payload.length),
        payload,
      ]),
    );
    const reader = new Reader(socket);
    await new Promise<void>((resolve) => {
      let handshake = 0;
      socket.on('data', (bytes) => {
        if (handshake < replies) {
          handshake += bytes.length;
          if (handshake === replies) resolve();
          return;
        }
        reader.#take(bytes.length);
      });
    });
    for (let count = 0; count < DEPTH; count++) socket.write(reader.#request);
    return reader;
  }

  /** Replies a second, over this many milliseconds. */
  async rate(ms: number): Promise<number> {
    const before = this.#replies;
    const start = performance.now();
    await new Promise((resolve) => setTimeout(resolve, ms));
    return ((this.#replies - before) * 1000) / (performance.now() - start);
  }

  stop(): void {
    this.#socket.destroy();
  }

  #take(length: number): void {
    this.#received += length;
    let whole = 0;
    while (this.#received >= 16 + READ_LENGTH) {
      this.#received -= 16 + READ_LENGTH;
      whole++;
    }
    if (whole === 0) return;
    this.#replies += whole;
    this.#socket.write(Buffer.concat(Array.from({ length: whole }, () => this.#request)));
  }
}
