// What hostile peers can make the server hold: memory, descriptors, connections.

import { execFileSync } from 'node:child_process';
import { connect, type Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { waitUntil } from '../conformance/daemon-process.ts';
import { encodeRequest, type NbdPeer } from '../conformance/nbd-peer.ts';
import {
  metaPayload,
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_OPT_LIST,
  NBD_OPT_LIST_META_CONTEXT,
  NBD_OPT_STRUCTURED_REPLY,
} from '../conformance/wire-steps.ts';
import { type HostileServer, MIB, startHostileServer } from './hostile-server.ts';

/**
 * Kilobytes that one connection may hold: a request of the largest size and a buffer for each direction
 * (src/export/nbd/README.md, Limits).
 */
const CONNECTION_KIB = 34 * 1024;

/** Kilobytes by which the daemon may grow whatever its connections hold: its heap, and code that runs for the first time. */
const GROWTH_KIB = 48 * 1024;

const GIANT = 0xffff_ffff;
const none = new Uint8Array();

/** Lets peers do their worst until the daemon's memory has stopped growing: by how many kilobytes it has grown. */
async function growth(server: HostileServer, doWorst: () => Promise<void>): Promise<number> {
  const before = server.resident();
  await doWorst();
  let most = server.resident();
  for (let calm = 0; calm < 8; calm++) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    const now = server.resident();
    if (now > most + 512) calm = 0;
    most = Math.max(most, now);
  }
  return most - before;
}

describe('memory', () => {
  const count = 6;
  const attacks: Readonly<Record<string, (peer: NbdPeer) => void>> = {
    'ask for 32 MiB a hundred times and read nothing'(peer) {
      peer.pause();
      for (let at = 0; at < 100; at++) {
        peer.send(encodeRequest({ type: NBD_CMD_READ, length: 32 * MIB }, BigInt(at)));
      }
    },
    'ask for 17 MiB, 3 MiB and 1 byte in turn and read nothing'(peer) {
      peer.pause();
      for (let at = 0; at < 99; at++) {
        const length = [17 * MIB, 3 * MIB, 1][at % 3] ?? 1;
        peer.send(encodeRequest({ type: NBD_CMD_READ, length }, BigInt(at)));
      }
    },
    'ask for 2.1 MiB hundreds of times and read nothing'(peer) {
      peer.pause();
      for (let at = 0; at < 300; at++) {
        peer.send(encodeRequest({ type: NBD_CMD_READ, length: 2_200_000 }, BigInt(at)));
      }
    },
    'write 32 MiB but for the last byte'(peer) {
      const write = { type: NBD_CMD_WRITE, payload: Buffer.alloc(32 * MIB) };
      peer.send(encodeRequest(write, 1n).subarray(0, -1));
    },
  };
  for (const [what, attack] of Object.entries(attacks)) {
    it(`of a connection is bounded when peers ${what}`, async () => {
      const server = await startHostileServer();
      const peers = await server.enterMany(count);
      const grown = await growth(server, async () => {
        for (const peer of peers) attack(peer);
        await server.expectWell();
      });
      expect(grown).toBeLessThan(count * CONNECTION_KIB + GROWTH_KIB);
      await server.expectUnharmed();
    });
  }

  it('of a handshake is bounded when peers ask and read nothing', async () => {
    const server = await startHostileServer();
    const grown = await growth(server, async () => {
      for (let at = 0; at < 40; at++) {
        const peer = await server.connect();
        await peer.greet(3);
        peer.pause();
        const queries = Array.from({ length: 5000 }, () => 'base:allocation');
        for (let round = 0; round < 500; round++) peer.sendOption(NBD_OPT_LIST, none);
        peer.sendOption(NBD_OPT_LIST_META_CONTEXT, metaPayload('ex', queries));
        for (let round = 0; round < 5000; round++) peer.sendOption(99, none);
      }
      await server.expectWell();
    });
    expect(grown).toBeLessThan(40 * 1024 + GROWTH_KIB);
    await server.expectUnharmed();
  });

  it('of idle connections is next to nothing', async () => {
    const server = await startHostileServer();
    const grown = await growth(server, async () => {
      await server.enterMany(90);
    });
    expect(grown).toBeLessThan(90 * 128 + GROWTH_KIB);
    await server.expectUnharmed();
  });

  it('comes back when the peers leave', async () => {
    const server = await startHostileServer();
    await server.expectWell();
    const before = server.resident();
    for (const peer of await server.enterMany(4))
      attacks['write 32 MiB but for the last byte']?.(peer);
    await waitUntil(() => server.resident() > before + 4 * 30 * 1024, 30_000);
    server.leave();
    await waitUntil(() => server.resident() < before + GROWTH_KIB, 30_000);
    await server.expectUnharmed();
  });
});

describe('giant lengths', () => {
  it('of requests without data are refused, and the session goes on', async () => {
    const server = await startHostileServer();
    const peer = await server.enter();
    for (const type of [NBD_CMD_READ, NBD_CMD_CACHE, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES, 9]) {
      for (const offset of [0, 1n << 63n, (1n << 64n) - 1n]) {
        const request = { type, offset: offset as number, length: GIANT };
        expect(await peer.requests([request])).toEqual(['simple error 22']);
      }
    }
    expect(await peer.requests([{ type: NBD_CMD_BLOCK_STATUS, length: GIANT }])).toEqual([
      'simple error 22',
    ]);
    await server.expectUnharmed();
  });

  it('of a write end the session, with nothing allocated', async () => {
    const server = await startHostileServer();
    const grown = await growth(server, async () => {
      for (const peer of await server.enterMany(20)) {
        peer.send(encodeRequest({ type: NBD_CMD_WRITE, length: GIANT }, 1n));
        expect((await peer.listen('the end')).at(-1)).toBe('<closed>');
      }
    });
    expect(grown).toBeLessThan(GROWTH_KIB);
    await server.expectUnharmed();
  });

  it('of options end the handshake; those below the limit are skipped without being kept', async () => {
    const server = await startHostileServer();
    const grown = await growth(server, async () => {
      for (const option of [1, 2, 3, 7, 10, 99]) {
        const peer = await server.connect();
        await peer.greet(3);
        peer.sendOption(option, none, undefined, GIANT);
        expect((await peer.listen('the end')).at(-1)).toBe('<closed>');
      }
      const patient = await server.connect();
      await patient.greet(3);
      patient.sendOption(99, Buffer.alloc(32 * MIB));
      expect((await patient.optionReplies())[0]).toMatch(/^option 99 reply 0x80000001/);
      patient.sendOption(NBD_OPT_STRUCTURED_REPLY, none);
      expect(await patient.optionReplies()).toEqual(['option 8 reply 0x1']);
    });
    expect(grown).toBeLessThan(GROWTH_KIB);
    await server.expectUnharmed();
  });
});

describe('connections', () => {
  const flood = 2000;

  /** Connections that do nothing; how many were greeted can be asked. */
  function crowd(server: HostileServer): { sockets: Socket[]; greeted: () => number } {
    let greeted = 0;
    const sockets = Array.from({ length: flood }, () => {
      const socket = connect(server.socket);
      socket.on('error', () => {});
      socket.once('data', () => greeted++);
      return socket;
    });
    return { sockets, greeted: () => greeted };
  }

  it(`${flood} at once are served up to max-connections, and the others wait their turn`, async () => {
    const server = await startHostileServer('{"max-connections":50}');
    const inside = await server.enter();
    const { sockets, greeted } = crowd(server);
    await waitUntil(() => greeted() === 49, 30_000);
    expect(await inside.requests([{ type: NBD_CMD_READ, length: 4 }])).toHaveLength(1);
    expect(greeted()).toBe(49);
    for (const socket of sockets) socket.destroy();
    await server.expectUnharmed();
  });

  it(`${flood} at once without a limit are all served`, async () => {
    const server = await startHostileServer('{"max-connections":0}');
    const { sockets, greeted } = crowd(server);
    await waitUntil(() => greeted() === flood, 30_000);
    await server.expectWell();
    for (const socket of sockets) socket.destroy();
    await server.expectUnharmed();
  });

  it('beyond the descriptors that there are leave those that are inside in peace', async () => {
    const server = await startHostileServer('{"max-connections":0}');
    const inside = await server.enter();
    const pid = String(server.served.daemon.pid);
    execFileSync('prlimit', ['--pid', pid, '--nofile=100:100']);
    const { sockets } = crowd(server);
    await waitUntil(() => server.served.daemon.openDescriptors() >= 99, 30_000);
    for (let round = 0; round < 50; round++) {
      expect(await inside.requests([{ type: NBD_CMD_READ, length: 4 }])).toHaveLength(1);
    }
    for (const socket of sockets) socket.destroy();
    await server.expectUnharmed();
  });
});
