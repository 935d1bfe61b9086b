// TLS handshakes that are cut, broken or left lying: each ends by itself, nobody else notices, and nothing is left of it.

import { describe, expect, it } from 'vitest';
import { encodeRequest, type NbdPeer } from '../conformance/nbd-peer.ts';
import { NBD_CMD_READ, NBD_CMD_WRITE } from '../conformance/wire-steps.ts';
import { clientHello, STARTTLS, startTlsServer } from './tls-server.ts';

const MIB = 1024 * 1024;

describe('handshakes of TLS', () => {
  it('may end at any byte', async () => {
    const server = await startTlsServer();
    const before = server.sockets();
    await server.serves();
    const hello = await clientHello();
    for (let cut = 0; cut <= hello.length; cut += 7) {
      const peer = await server.greeted();
      peer.send(Buffer.concat([STARTTLS, hello.subarray(0, cut)]));
      if (cut % 2 === 0) await peer.optionReplies();
      peer.close();
    }
    await server.serves();
    await expect.poll(() => server.sockets()).toBeLessThanOrEqual(before);
  });

  it('may be broken at any byte', async () => {
    const server = await startTlsServer();
    const before = server.sockets();
    await server.serves();
    const hello = await clientHello();
    for (let at = 0; at < hello.length; at += 5) {
      const broken = Buffer.from(hello);
      broken[at] = (broken[at] ?? 0) ^ 0xff;
      const peer = await server.greeted();
      peer.send(Buffer.concat([STARTTLS, broken]));
      await peer.optionReplies();
      peer.close();
    }
    await server.serves();
    await expect.poll(() => server.sockets()).toBeLessThanOrEqual(before);
  });
});

/** Kilobytes that a connection under TLS may hold: what one in the clear may, and what waits to be encrypted or was decrypted. */
const CONNECTION_KIB = 35 * 1024;
/** Kilobytes by which the daemon may grow whatever its connections hold. */
const GROWTH_KIB = 48 * 1024;

describe('memory of connections under TLS', () => {
  const count = 4;
  const attacks: Readonly<Record<string, (peer: NbdPeer) => void>> = {
    'ask for 32 MiB a hundred times and read nothing'(peer) {
      peer.pause();
      for (let at = 0; at < 100; at++) {
        peer.send(encodeRequest({ type: NBD_CMD_READ, length: 32 * MIB }, BigInt(at)));
      }
    },
    'write 32 MiB but for the last byte'(peer) {
      const write = { type: NBD_CMD_WRITE, payload: Buffer.alloc(32 * MIB) };
      peer.send(encodeRequest(write, 1n).subarray(0, -1));
    },
  };

  it.each(Object.entries(attacks))('is bounded when peers %s', async (_what, attack) => {
    const server = await startTlsServer();
    const before = server.sockets();
    await server.serves();
    const resident = server.resident();
    const peers: NbdPeer[] = [];
    for (let at = 0; at < count; at++) {
      peers.push(await server.entered());
    }
    for (const peer of peers) attack(peer);
    // Until they hold something, and then what they can.
    const grown = (): number => server.resident() - resident;
    await expect.poll(grown).toBeGreaterThan(count * 8 * 1024);
    for (let most = 0; grown() > most + 512; ) {
      most = grown();
      await server.serves();
    }
    expect(grown()).toBeLessThan(count * CONNECTION_KIB + GROWTH_KIB);
    for (const peer of peers) peer.close();
    await expect.poll(() => server.sockets()).toBeLessThanOrEqual(before);
    await expect.poll(grown).toBeLessThan(2 * GROWTH_KIB);
  });
});
