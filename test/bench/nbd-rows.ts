// The rows about an NBD server whose disk another NBD server has, our own one for every contestant, and for ours those of others:
// how fast it is, and what that is of the rate of a client that asks the other one itself. All of them share the processors; what a
// proxy could keep at most is shown by one that only moves bytes (bare-pump.c).

import { mkdtempSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DaemonProcess } from '../conformance/daemon-process.ts';
import { ours, reference, type Side } from '../conformance/side.ts';
import { findProgram } from '../helpers/reference.ts';
import { type Contestant, copyOf, startBarePump, startNbdkit } from './contestants.ts';
import { type FioJob, fio } from './programs.ts';
import type { Plan, Row } from './rows.ts';

/** Of the direct rate, in percent. */
const KEPT = 70;

/** Seconds of load before anything is measured. */
const WARM_UP = 1;

/** Who has the disk. */
type Origin = 'ours' | 'reference' | 'nbdkit';

const isDaemon = (contestant: Contestant): boolean => contestant.qmp !== undefined;
const isBare = (contestant: Contestant): boolean => contestant.name === 'bare loop';

export const nbdRows: readonly Row[] = [
  ...proxyRows('4 KiB random read, depth 16', { rw: 'randread', bs: '4k', depth: 16 }),
  ...proxyRows('4 KiB random write, depth 16', { rw: 'randwrite', bs: '4k', depth: 16 }),
  ...proxyRows('256 KiB sequential read', { rw: 'read', bs: '256k', depth: 8 }),
  ...proxyRows('256 KiB sequential write', { rw: 'write', bs: '256k', depth: 8 }),
  ...(['reference', 'nbdkit'] as const).flatMap((origin) => [
    ...proxyRows('4 KiB random read, depth 16', { rw: 'randread', bs: '4k', depth: 16 }, origin),
    ...proxyRows('4 KiB random write, depth 16', { rw: 'randwrite', bs: '4k', depth: 16 }, origin),
    ...proxyRows('256 KiB sequential read', { rw: 'read', bs: '256k', depth: 8 }, origin),
  ]),
];

function proxyRows(work: string, job: FioJob, origin: Origin = 'ours'): readonly Row[] {
  const name = `NBD proxy${origin === 'ours' ? '' : ` for ${origin}`}, ${work}`;
  const shareRow = `${name}: of the direct rate`;
  const takesPart = (contestant: Contestant): boolean =>
    origin === 'ours'
      ? isDaemon(contestant) || isBare(contestant)
      : (contestant.name === 'ours' || isBare(contestant)) &&
        findProgram(programs[origin]) !== undefined;
  return [
    {
      name,
      unit: job.bs === '4k' ? 'IOPS' : 'MiB/s',
      better: 'more',
      targets: origin === 'ours' ? [{ against: 'reference', ratio: 1 }] : [],
      takesPart,
      measure: (contestant, plan, extra) =>
        withProxy(contestant, plan, origin, async (direct, proxied) => {
          await rateOf(direct, { ...plan, seconds: WARM_UP }, job);
          await rateOf(proxied, { ...plan, seconds: WARM_UP }, job);
          const before = await rateOf(direct, plan, job);
          const through = await rateOf(proxied, plan, job);
          const after = await rateOf(direct, plan, job);
          extra(shareRow, (100 * through) / ((before + after) / 2));
          return through;
        }),
    },
    {
      name: shareRow,
      unit: '%',
      better: 'more',
      targets: [],
      bound: KEPT,
      // Measured by the row above.
      takesPart: () => false,
      measure: async () => 0,
    },
  ];
}

async function rateOf(uri: string, plan: Plan, job: FioJob): Promise<number> {
  const { seconds, imageBytes } = plan;
  const result = await fio(uri, { seconds, bytes: imageBytes }, job);
  return (job.bs === '4k' ? result.requests : result.bytes / 2 ** 20) / result.seconds;
}

const programs = {
  reference: 'qemu-storage-daemon',
  nbdkit: 'nbdkit',
} as const satisfies Record<Exclude<Origin, 'ours'>, string>;

interface Server {
  readonly socket: string;
  stop(): Promise<unknown>;
}

async function startOrigin(origin: Origin, plan: Plan): Promise<Server> {
  if (origin === 'nbdkit') {
    const program = findProgram(programs.nbdkit);
    if (program === undefined) throw new Error('No nbdkit');
    // Not where the one is that takes part itself.
    return startNbdkit(program, mkdtempSync(join(dirname(plan.image), 'origin-')), plan.image);
  }
  const image = copyOf(plan.image, 'proxied');
  return serving(origin === 'ours' ? ours() : reference(), `file,node-name=n,filename=${image}`);
}

/** Calls `measure` with the URIs of a server and of the contestant's proxy for it. */
async function withProxy(
  contestant: Contestant,
  plan: Plan,
  origin: Origin,
  measure: (direct: string, proxied: string) => Promise<number>,
): Promise<number> {
  const server = await startOrigin(origin, plan);
  try {
    const proxy = await startProxy(contestant, plan, server.socket);
    try {
      return await measure(uriOf(server.socket), uriOf(proxy.socket));
    } finally {
      await proxy.stop();
    }
  } finally {
    await server.stop();
  }
}

async function startProxy(contestant: Contestant, plan: Plan, server: string): Promise<Server> {
  if (isBare(contestant)) return startBarePump(dirname(plan.image), server);
  const disk = `nbd,node-name=n,server.type=unix,server.path=${server}`;
  return serving(contestant.name === 'ours' ? ours() : reference(), disk);
}

async function serving(side: Side, blockdev: string): Promise<Server> {
  const daemon = new DaemonProcess(side, {
    arguments: [
      '--blockdev',
      blockdev,
      '--nbd-server',
      'addr.type=unix,addr.path=@DIR@/nbd.sock',
      '--export',
      'nbd,id=e,node-name=n,name=,writable=on',
    ],
  });
  await daemon.stdio?.negotiate();
  return { socket: daemon.path('nbd.sock'), stop: () => daemon.stop() };
}

const uriOf = (socket: string): string => `nbd+unix:///?socket=${socket}`;
