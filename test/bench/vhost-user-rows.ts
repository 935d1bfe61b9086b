// The rows about vhost-user-blk: 4 KiB requests of a virtqueue driver of our own, in this process, to either daemon.

import { existsSync } from 'node:fs';
import type { Contestant } from './contestants.ts';
import type { Plan, Row } from './rows.ts';
import { virtioLoad } from './virtio-load.ts';

const jobs = [
  { rw: 'randread', depth: 1 },
  { rw: 'randread', depth: 16 },
  { rw: 'randread', depth: 64 },
  { rw: 'randwrite', depth: 1 },
  { rw: 'randwrite', depth: 16 },
  { rw: 'randwrite', depth: 64 },
] as const;

export const vhostUserRows: readonly Row[] = jobs.map(({ rw, depth }) => ({
  name: `vhost-user-blk, 4 KiB random ${rw === 'randread' ? 'read' : 'write'}, depth ${depth}`,
  unit: 'IOPS',
  better: 'more',
  targets: [{ against: 'reference', ratio: 1 }],
  takesPart: (contestant) => contestant.qmp !== undefined,
  measure: (contestant, plan) =>
    withVhostUser(contestant, plan, (socket) =>
      virtioLoad(socket, { rw, depth, seconds: plan.seconds }),
    ),
}));

/** Exports the contestant's disk for as long as `work` has the socket. */
export async function withVhostUser<T>(
  contestant: Contestant,
  plan: Plan,
  work: (socket: string) => Promise<T>,
): Promise<T> {
  const socket = `${plan.image}.${contestant.name}.vhost`;
  const options = {
    type: 'vhost-user-blk',
    id: 'v',
    'node-name': 'f',
    writable: true,
    addr: { type: 'unix', path: socket },
  };
  await command(contestant, 'block-export-add', options);
  if (!existsSync(socket)) throw new Error(`${contestant.name} has not made ${socket}`);
  try {
    return await work(socket);
  } finally {
    await command(contestant, 'block-export-del', { id: 'v', mode: 'hard' });
  }
}

async function command({ qmp }: Contestant, name: string, args: object): Promise<void> {
  await qmp?.command(JSON.stringify({ execute: name, arguments: args }));
}
