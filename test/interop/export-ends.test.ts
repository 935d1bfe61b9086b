// In which order the ends of exports are told when all end at once: with the daemon, or with the NBD server. As in the reference,
// whoever is connected to them.

import { connect } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import { NbdPeer } from '../conformance/nbd-peer.ts';
import { goPayload, NBD_CMD_READ, NBD_OPT_GO } from '../conformance/wire-steps.ts';
import { startDaemon, type TestDaemon } from '../helpers/daemon.ts';
import { missing } from '../helpers/reference.ts';

/** GET_FEATURES */
const FIRST_MESSAGE = Buffer.from([1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
const reason = missing('qemu-storage-daemon');

interface Scene {
  /** One letter for each export, the oldest first: N for NBD, V for vhost-user-blk; small ones are nobody's. */
  readonly exports: string;
  /** Exports in the order in which clients connect. Default: the order of the exports. */
  readonly clients?: readonly number[];
  /** Clients, by their export, that send a request after that. */
  readonly heard?: readonly number[];
  /** All exports are of one node. */
  readonly shared?: true;
  readonly end: 'quit' | 'nbd-server-stop' | NodeJS.Signals;
}

const scenes: readonly Scene[] = [
  { exports: 'nnn', end: 'quit' },
  { exports: 'NNN', end: 'quit' },
  { exports: 'NNN', clients: [1, 2, 0], end: 'quit' },
  { exports: 'NNN', clients: [2, 1, 0], heard: [0, 2], end: 'SIGTERM' },
  { exports: 'VnN', end: 'quit' },
  { exports: 'VNV', end: 'SIGINT' },
  { exports: 'NnVvN', end: 'SIGTERM' },
  { exports: 'VNVNn', clients: [3, 2, 1, 0], end: 'quit' },
  { exports: 'NvnN', end: 'nbd-server-stop' },
  { exports: 'NnNn', shared: true, end: 'quit' },
  { exports: 'nNV', shared: true, end: 'quit' },
  { exports: 'Nn', shared: true, end: 'nbd-server-stop' },
];

describe.skipIf(reason !== undefined)(`the ends of exports (${reason ?? 'as there'})`, () => {
  it.each(scenes)('$exports, $end: $clients $heard $shared', async (scene) => {
    const [expected, found] = await Promise.all([
      ends(scene, ['qemu-storage-daemon']),
      ends(scene),
    ]);
    expect(expected.length).toBeGreaterThan(1);
    expect(found).toEqual(expected);
  });
});

async function ends(scene: Scene, command?: readonly string[]): Promise<readonly string[]> {
  const daemon = await startDaemon({
    args: ['--nbd-server', 'addr.type=unix,addr.path=nbd.sock,max-connections=0'],
    ...(command === undefined ? {} : { command }),
  });
  const { qmp } = daemon;
  const kinds = scene.exports.split('');
  for (const [index, kind] of kinds.entries()) {
    const name = `n${index}`;
    const node = { 'node-name': scene.shared === true ? 'n0' : name };
    if (index === 0 || scene.shared !== true) {
      await qmp.execute('blockdev-add', { driver: 'null-co', size: 65536, ...node });
    }
    const common = { id: `${kind}${index}`, ...node };
    if (kind.toUpperCase() === 'N') {
      await qmp.execute('block-export-add', { type: 'nbd', name, ...common });
    } else {
      const addr = { type: 'unix', path: `v${index}` } as const;
      await qmp.execute('block-export-add', { type: 'vhost-user-blk', addr, ...common });
    }
  }
  const peers = new Map<number, NbdPeer>();
  for (const index of scene.clients ?? kinds.keys()) {
    if (kinds[index] === 'N') peers.set(index, await client(daemon, `n${index}`));
    if (kinds[index] === 'V') await frontend(daemon, `v${index}`);
  }
  for (const index of scene.heard ?? []) {
    await peers.get(index)?.requests([{ type: NBD_CMD_READ, offset: 0, length: 512 }]);
  }
  return told(daemon, scene);
}

/** The ids, until the connection ends. */
async function told({ qmp, child }: TestDaemon, { end }: Scene): Promise<string[]> {
  const events = qmp.events();
  if (end === 'quit' || end === 'nbd-server-stop') await qmp.execute(end);
  else child.kill(end);
  if (end === 'nbd-server-stop') qmp.close();
  const ids: string[] = [];
  for await (const { event, data } of events) {
    if (event === 'BLOCK_EXPORT_DELETED') ids.push(data.id);
  }
  return ids;
}

async function client(daemon: TestDaemon, name: string): Promise<NbdPeer> {
  const peer = await NbdPeer.connect(daemon.path('nbd.sock'));
  onTestFinished(() => peer.close());
  await peer.greet(3);
  peer.sendOption(NBD_OPT_GO, goPayload(name, []));
  expect((await peer.optionReplies()).at(-1)).toBe('option 7 reply 0x1');
  return peer;
}

/** Connects, and has an answer. */
async function frontend(daemon: TestDaemon, name: string): Promise<void> {
  const socket = connect(daemon.path(name));
  onTestFinished(() => void socket.destroy());
  socket.write(FIRST_MESSAGE);
  await new Promise((resolve) => socket.once('data', resolve));
}
