// The rows about fio in a Linux guest on vhost-user-blk. The guest is emulated, which costs more than what it asks for: the rows
// tell what a driver that is not ours sees, and little of what the daemons could do.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Guest } from '../interop/guest/guest.ts';
import { type GuestParts, guestParts } from '../interop/guest/kernel.ts';
import { type FioJob, fioArguments, fioResult } from './programs.ts';
import type { Extra, Plan, Row } from './rows.ts';
import { withVhostUser } from './vhost-user-rows.ts';

const parts = guestParts('fio');
/** MiB; fio comes with many libraries. */
const MEMORY = 512;

const jobs: readonly FioJob[] = [
  { rw: 'randread', bs: '4k', depth: 1 },
  { rw: 'randread', bs: '4k', depth: 16 },
  { rw: 'randwrite', bs: '4k', depth: 1 },
  { rw: 'randwrite', bs: '4k', depth: 16 },
];

/** One boot serves all: the first row measures the others as well. */
export const guestRows: readonly Row[] = jobs.map((job, at) => ({
  name: nameOf(job),
  unit: 'IOPS',
  better: 'more',
  targets: [{ against: 'reference', ratio: 1 }],
  takesPart: (contestant) => at === 0 && typeof parts !== 'string' && contestant.qmp !== undefined,
  measure: (contestant, plan, extra) =>
    withVhostUser(contestant, plan, (socket) => measure(socket, plan, extra)),
}));

function nameOf({ rw, depth }: FioJob): string {
  return `fio in a guest, 4 KiB random ${rw === 'randread' ? 'read' : 'write'}, depth ${depth}`;
}

async function measure(socket: string, plan: Plan, extra: Extra): Promise<number> {
  const directory = mkdtempSync(join(tmpdir(), 'qsd-bench-guest-'));
  const disks = [{ socket }];
  const guest = Guest.start({ parts: parts as GuestParts, directory, disks, memory: MEMORY });
  try {
    await guest.ready();
    const rates: number[] = [];
    for (const job of jobs) {
      const rate = await rateOf(guest, plan, job);
      if (rates.push(rate) > 1) extra(nameOf(job), rate);
    }
    return rates[0] ?? 0;
  } finally {
    await guest.kill();
    rmSync(directory, { recursive: true, force: true });
  }
}

async function rateOf(guest: Guest, plan: Plan, job: FioJob): Promise<number> {
  const target = ['--ioengine=libaio', '--direct=1', '--filename=/dev/vda'];
  const area = { seconds: plan.seconds, bytes: plan.imageBytes };
  const line = ['/host/fio', ...fioArguments(target, area, job)].join(' ');
  const { requests, seconds } = fioResult(await guest.succeed(line), job);
  return requests / seconds;
}
