// Floods of peers that begin TLS and do not mean it. Held: a client that copies data goes on, the server stays small, each of them
// is gone when its time is up, with one line in the log and nothing left of it, and none gets around the limit of connections.

import { describe, expect, it } from 'vitest';
import type { NbdPeer } from '../conformance/nbd-peer.ts';
import { NBD_CMD_READ } from '../conformance/wire-steps.ts';
import { clientHello, STARTTLS, startTlsServer, type TlsServer } from './tls-server.ts';

const KIB = 1024;
/** For a handshake: honest ones come to their end in that time even where everything is slow. */
const LIMIT_SECONDS = 15;
/** Peers of each kind. */
const EACH = 12;
/** Kilobytes that the server may hold for a handshake: what has come, what is to go, and what OpenSSL knows of it. */
const HANDSHAKE_KIB = 384;
/** Kilobytes by which it may grow whatever it holds: its heap, and code that runs for the first time. */
const GROWTH_KIB = 48 * KIB;

/** A record of TLS in the clear. */
function record(type: number, content: Uint8Array): Buffer {
  const header = Buffer.from([type, 3, 1, content.length >> 8, content.length & 0xff]);
  return Buffer.concat([header, content]);
}

const HANDSHAKE = 22;
const full = Buffer.alloc(16 * KIB, 7);
/** The first record of a message of 16 MiB, and more of it. */
const giantMessage = Buffer.concat([
  record(HANDSHAKE, Buffer.from([1, 0xff, 0xff, 0xff])),
  ...Array.from({ length: 40 }, () => record(HANDSHAKE, full)),
]);

/** What peers send behind their request for TLS. */
const kinds: Readonly<Record<string, (hello: Buffer) => Buffer>> = {
  nothing: () => Buffer.alloc(0),
  'one byte': (hello) => hello.subarray(0, 1),
  'half a ClientHello': (hello) => hello.subarray(0, hello.length / 2),
  'a ClientHello in many records': (hello) =>
    Buffer.concat(Array.from(hello.subarray(5), (byte) => record(HANDSHAKE, Buffer.of(byte)))),
  'a ClientHello, and no more': (hello) => hello,
  'two of them': (hello) => Buffer.concat([hello, hello]),
  garbage: () => Buffer.alloc(64 * KIB, 'garbage'),
  'a megabyte at once': (hello) => Buffer.concat([hello, Buffer.alloc(1024 * KIB, 1)]),
  'more options of NBD': () => Buffer.concat([STARTTLS, STARTTLS]),
  'a record that is too long': () => Buffer.from([HANDSHAKE, 3, 1, 0xff, 0xff]),
  'empty records': () =>
    Buffer.concat(Array.from({ length: 500 }, () => record(HANDSHAKE, full.subarray(0, 0)))),
  'a giant message': () => giantMessage,
  alerts: () => Buffer.concat(Array.from({ length: 500 }, () => record(21, Buffer.of(1, 0)))),
  'data in the clear': () => record(23, full),
};

/** A client that reads until it is told to stop, and counts. */
class Copy {
  count = 0;
  #stopped = false;
  readonly #done: Promise<void>;

  constructor(client: NbdPeer) {
    this.#done = this.#run(client);
  }

  /** Waits until so many more reads are answered. */
  async goesOn(reads: number): Promise<void> {
    const before = this.count;
    await expect.poll(() => this.count).toBeGreaterThan(before + reads);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#done;
  }

  async #run(client: NbdPeer): Promise<void> {
    while (!this.#stopped) {
      const offset = (this.count % 1024) * 64 * KIB;
      const answers = await client.requests([{ type: NBD_CMD_READ, offset, length: 64 * KIB }]);
      expect(answers).toEqual(['simple error 0 65536 bytes of 0x0']);
      this.count++;
    }
  }
}

/** Lines in the log, and that none of them tells of a fault of ours. */
function logged(server: TlsServer): readonly string[] {
  const { stderr } = server.daemon;
  expect(stderr).not.toMatch(/\bat .*:\d+:\d+\)|unhandled|uncaught|unexpected failure/i);
  return stderr.split('\n').filter((line) => line !== '');
}

describe('a flood of handshakes', () => {
  it('of every kind leaves a client that copies data alone, and nothing behind', async () => {
    const server = await startTlsServer({ seconds: LIMIT_SECONDS });
    await server.serves();
    const client = await server.entered();
    const before = server.sockets();
    const resident = server.resident();
    const copy = new Copy(client);
    const hello = await clientHello();
    const peers: NbdPeer[] = [];
    for (const bytesOf of Object.values(kinds)) {
      const bytes = Buffer.concat([STARTTLS, bytesOf(hello)]);
      for (let at = 0; at < EACH; at++) {
        const peer = await server.greeted();
        peer.send(bytes);
        peers.push(peer);
      }
      expect(server.resident() - resident).toBeLessThan(peers.length * HANDSHAKE_KIB + GROWTH_KIB);
    }
    await copy.goesOn(200);
    await server.serves();
    // All have been told to go, without leaving of their own.
    await expect.poll(() => server.sockets()).toBeLessThanOrEqual(before);
    await copy.goesOn(200);
    await copy.stop();
    // One for each, and one for each client that only looked around.
    expect(logged(server).length).toBeLessThanOrEqual(peers.length + 2);
    for (const peer of [...peers, client]) peer.close();
    await server.serves();
  });

  it('that are carried through leaves nothing behind either', async () => {
    const server = await startTlsServer();
    const client = await server.entered();
    const before = server.sockets();
    const copy = new Copy(client);
    for (let round = 0; round < 15; round++) {
      const peers = await Promise.all(
        Array.from({ length: 8 }, async (_, at) =>
          server.secured(at % 2 === 0 ? 'TLSv1.3' : 'TLSv1.2'),
        ),
      );
      for (const peer of peers) peer.close();
    }
    expect(copy.count).toBeGreaterThan(0);
    await copy.goesOn(200);
    await copy.stop();
    await expect.poll(() => server.sockets()).toBeLessThanOrEqual(before);
    client.close();
    logged(server);
  });

  it('is not to be had within one session', async () => {
    const server = await startTlsServer();
    const client = await server.entered();
    const before = server.sockets();
    const copy = new Copy(client);
    const peers = await Promise.all(
      Array.from({ length: 8 }, async () => server.secured('TLSv1.2')),
    );
    const outcomes = await Promise.all(peers.map(async (peer) => peer.handshakeAgain()));
    expect(outcomes).toEqual(peers.map(() => '<refused>'));
    for (const peer of peers) peer.close();
    await copy.goesOn(100);
    await copy.stop();
    await expect.poll(() => server.sockets()).toBeLessThanOrEqual(before);
    client.close();
    logged(server);
  });

  it('has no more than max-connections, and makes room for who waits', async () => {
    const server = await startTlsServer({ connections: 4 });
    const client = await server.entered();
    const before = server.sockets();
    const hello = await clientHello();
    const inside = await Promise.all(Array.from({ length: 3 }, async () => server.greeted()));
    for (const peer of inside) peer.send(Buffer.concat([STARTTLS, hello]));
    // Not greeted before another leaves.
    const waiting = server.greeted();
    const copy = new Copy(client);
    await copy.goesOn(100);
    expect(server.sockets()).toBe(before + inside.length);
    inside[0]?.close();
    const greeted = await waiting;
    await copy.stop();
    for (const peer of [...inside, greeted, client]) peer.close();
    await expect.poll(() => server.sockets()).toBeLessThan(before);
    expect(logged(server).length).toBeLessThanOrEqual(inside.length + 2);
  });
});
