// However some peers behave, the others are served: their rate beside hostile peers, against their rate alone, in one run.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setPriority } from 'node:os';
import { describe, expect, it, onTestFinished } from 'vitest';
import { environment } from '../conformance/daemon-process.ts';
import { encodeRequest } from '../conformance/nbd-peer.ts';
import { NBD_CMD_READ, NBD_CMD_WRITE, NBD_OPT_LIST } from '../conformance/wire-steps.ts';
import { type FloodKind, floodKinds, floodPath } from './flood.ts';
import { type HostileServer, MIB, Reader, startHostileServer } from './hostile-server.ts';

/** Milliseconds of one measurement, and how many are tried: a busy machine gets another chance. */
const WINDOW = 300;
const ATTEMPTS = 40;

/** Milliseconds between the begin of a disturbance and the measurement. */
const SETTLING = 150;

/** The least part of its undisturbed rate that a client keeps. */
const KEPT = 0.5;

/**
 * A flood is a process more that wants a processor, as the daemon and the measuring client do. It gets what they leave: what is
 * measured is the daemon's fairness, not the kernel's.
 */
const FLOOD_NICENESS = 19;

/** How many peers do the same. */
const CROWD = 40;

/** The best that was kept in a few attempts, each of which compares alone and disturbed. */
async function kept(
  server: HostileServer,
  least: number,
  disturb: () => Promise<() => void>,
): Promise<number> {
  const reader = await Reader.start(server.socket);
  let best = 0;
  for (let attempt = 0; attempt < ATTEMPTS && best < least; attempt++) {
    const alone = await reader.rate(WINDOW);
    const stop = await disturb();
    // Not the first moment, in which each of them is given what the server can hold for it.
    await reader.rate(SETTLING);
    const disturbed = await reader.rate(WINDOW);
    stop();
    server.leave();
    best = Math.max(best, disturbed / alone);
  }
  reader.stop();
  return best;
}

async function startFlood(socket: string, kind: FloodKind): Promise<() => void> {
  const child = spawn(process.execPath, ['--import', 'tsx', floodPath, socket, kind], {
    env: environment(),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(() => {
    child.kill('SIGKILL');
  });
  if (child.pid !== undefined) setPriority(child.pid, FLOOD_NICENESS);
  await once(child.stdout, 'data');
  return () => child.kill('SIGKILL');
}

/** Many peers that keep what the server gives them, or give it nothing. */
const crowds: Readonly<Record<string, (server: HostileServer) => Promise<() => void>>> = {
  async 'peers that ask for 32 MiB and read nothing'(server) {
    for (const peer of await server.enterMany(8)) {
      peer.pause();
      for (let at = 0; at < 50; at++) {
        peer.send(encodeRequest({ type: NBD_CMD_READ, length: 32 * MIB }, BigInt(at)));
      }
    }
    return () => {};
  },
  async 'peers that send a write byte by byte'(server) {
    const peers = await server.enterMany(CROWD);
    const write = encodeRequest({ type: NBD_CMD_WRITE, payload: Buffer.alloc(MIB) }, 1n);
    let at = 0;
    const timer = setInterval(() => {
      for (const peer of peers) peer.send(write.subarray(at, at + 1));
      at++;
    }, 5);
    return () => clearInterval(timer);
  },
  async 'peers that say nothing'(server) {
    await Promise.all(Array.from({ length: CROWD }, async () => server.connect()));
    return () => {};
  },
  async 'peers that stop in the middle of an option'(server) {
    for (let count = 0; count < CROWD; count++) {
      const peer = await server.connect();
      await peer.greet(3);
      peer.sendOption(NBD_OPT_LIST, new Uint8Array(100), undefined, 32 * MIB);
    }
    return () => {};
  },
};

describe('a client that reads keeps its rate', () => {
  for (const [what, disturb] of Object.entries(crowds)) {
    it(`beside ${what}`, async () => {
      const server = await startHostileServer();
      const part = await kept(server, KEPT, async () => disturb(server));
      expect(part).toBeGreaterThan(KEPT);
      await server.expectUnharmed();
    });
  }

  for (const kind of floodKinds) {
    it(`beside a flood of ${kind}`, async () => {
      const server = await startHostileServer();
      const part = await kept(server, KEPT, async () => startFlood(server.socket, kind));
      expect(part).toBeGreaterThan(KEPT);
      await server.expectUnharmed();
    });
  }
});
