// What is measured: a row is a piece of work, the unit of its result, and the targets that ours is held to.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { DaemonProcess, environment } from '../conformance/daemon-process.ts';
import { ours, reference } from '../conformance/side.ts';
import { pythonWithNbd } from '../helpers/reference.ts';
import {
  type Contestant,
  type ContestantName,
  copyOf,
  processorSeconds,
  residentMebibytes,
} from './contestants.ts';
import { fuseRows } from './fuse-rows.ts';
import { guestRows } from './guest-rows.ts';
import { nbdRows } from './nbd-rows.ts';
import { type FioJob, fio, output } from './programs.ts';
import { qcow2Rows } from './qcow2-rows.ts';
import { startTlsDaemon } from './tls-daemon.ts';
import { vhostUserRows } from './vhost-user-rows.ts';

export interface Target {
  readonly against: ContestantName | 'node -e 0';
  /** Ours divided by theirs: at least, or at most where less is better. */
  readonly ratio: number;
}

export interface Row {
  readonly name: string;
  readonly unit: string;
  readonly better: 'more' | 'less';
  readonly targets: readonly Target[];
  /** What ours must be at least, or at most where less is better, in the row's unit. */
  readonly bound?: number;
  readonly takesPart: (contestant: Contestant) => boolean;
  /** One measurement; `extra` takes results for other rows. */
  readonly measure: (contestant: Contestant, plan: Plan, extra: Extra) => Promise<number>;
}

export interface Plan {
  readonly seconds: number;
  readonly image: string;
  readonly imageBytes: number;
}

export type Extra = (row: string, value: number) => void;

const isDaemon = (contestant: Contestant): boolean => contestant.qmp !== undefined;
const isServer = (contestant: Contestant): boolean => contestant.name !== 'bare loop';
const python = pythonWithNbd();
const everyone = (): boolean => true;

export const CPU_ROW = 'processor time per 4 KiB read, depth 16';
export const LOADED_ROW = 'resident memory under load';

export const rows: readonly Row[] = [
  fioRow('4 KiB random read, depth 1', { rw: 'randread', bs: '4k', depth: 1, ratio: 1.6 }),
  fioRow('4 KiB random read, depth 16', { rw: 'randread', bs: '4k', depth: 16, ratio: 2.2 }),
  fioRow('4 KiB random read, depth 64', { rw: 'randread', bs: '4k', depth: 64, ratio: 2.2 }),
  fioRow('4 KiB random write, depth 16', { rw: 'randwrite', bs: '4k', depth: 16, ratio: 1.8 }),
  fioRow('4 KiB random write, depth 64', { rw: 'randwrite', bs: '4k', depth: 64, ratio: 1.8 }),
  fioRow('256 KiB sequential read', { rw: 'read', bs: '256k', depth: 8, ratio: 1.6 }),
  fioRow('256 KiB sequential write', { rw: 'write', bs: '256k', depth: 8, ratio: 1.6 }),
  {
    name: CPU_ROW,
    unit: 'us',
    better: 'less',
    targets: [{ against: 'bare loop', ratio: 1.6 }],
    takesPart: everyone,
    measure: async (contestant, plan) => {
      const before = processorSeconds(contestant.pid);
      const { requests } = await fio(contestant.uri, areaOf(plan), {
        rw: 'randread',
        bs: '4k',
        depth: 16,
      });
      return ((processorSeconds(contestant.pid) - before) / requests) * 1e6;
    },
  },
  nbdcopyRow('nbdcopy from the server', (contestant) => [contestant.uri, 'null:']),
  nbdcopyRow('nbdcopy to the server', (contestant, plan) => [plan.image, contestant.uri]),
  tlsRow('nbdcopy from the server over TLS', (uri) => [uri, 'null:']),
  tlsRow('nbdcopy to the server over TLS', (uri, plan) => [plan.image, uri]),
  ...qcow2Rows,
  ...nbdRows,
  ...vhostUserRows,
  ...guestRows,
  ...fuseRows,
  {
    name: 'QMP round trips',
    unit: '/s',
    better: 'more',
    targets: [{ against: 'reference', ratio: 1 }],
    takesPart: isDaemon,
    measure: async (contestant, plan) =>
      perSecond(plan, async () => {
        await contestant.qmp?.command('{"execute":"query-version"}');
      }),
  },
  {
    name: 'export add and del cycles',
    unit: '/s',
    better: 'more',
    targets: [{ against: 'reference', ratio: 1 }],
    takesPart: isDaemon,
    measure: async (contestant, plan) =>
      perSecond(plan, async () => {
        const options = '{"type":"nbd","id":"x","node-name":"f","name":"x"}';
        await contestant.qmp?.command(`{"execute":"block-export-add","arguments":${options}}`);
        await contestant.qmp?.command('{"execute":"block-export-del","arguments":{"id":"x"}}');
      }),
  },
  {
    name: 'NBD handshakes',
    unit: '/s',
    better: 'more',
    targets: [{ against: 'reference', ratio: 1 }],
    takesPart: (contestant) => isServer(contestant) && python !== undefined,
    measure: async (contestant, plan) =>
      Number(
        await output(python ?? '', [
          '-I',
          '-c',
          handshakes,
          contestant.socket,
          String(plan.seconds),
        ]),
      ),
  },
  {
    name: 'resident memory, idle',
    unit: 'MiB',
    better: 'less',
    targets: [],
    bound: 60,
    takesPart: isServer,
    measure: async (contestant) => idleMebibytes(contestant),
  },
  {
    name: LOADED_ROW,
    unit: 'MiB',
    better: 'less',
    targets: [],
    takesPart: isServer,
    // Measured by the rows with load.
    measure: async (contestant) => residentMebibytes(contestant.pid),
  },
];

/** Connects, negotiates and disconnects in turn; prints how many times a second. */
const handshakes = `
import nbd, sys, time
begin, count = time.monotonic(), 0
while time.monotonic() - begin < float(sys.argv[2]):
    handle = nbd.NBD()
    handle.connect_unix(sys.argv[1])
    handle.shutdown()
    count += 1
print(count / (time.monotonic() - begin))
`;

const areaOf = (plan: Plan) => ({ seconds: plan.seconds, bytes: plan.imageBytes });

function fioRow(name: string, job: FioJob & { readonly ratio: number }): Row {
  return {
    name,
    unit: job.bs === '4k' ? 'IOPS' : 'MiB/s',
    better: 'more',
    targets: [
      { against: 'reference', ratio: job.ratio },
      { against: 'nbdkit', ratio: 1 },
    ],
    takesPart: isServer,
    measure: async (contestant, plan, extra) => {
      const { requests, bytes, seconds } = await fio(contestant.uri, areaOf(plan), job);
      extra(LOADED_ROW, residentMebibytes(contestant.pid));
      return job.bs === '4k' ? requests / seconds : bytes / seconds / 2 ** 20;
    },
  };
}

function nbdcopyRow(
  name: string,
  args: (contestant: Contestant, plan: Plan) => readonly string[],
): Row {
  return {
    name,
    unit: 'MiB/s',
    better: 'more',
    targets: [
      { against: 'reference', ratio: 1.6 },
      { against: 'nbdkit', ratio: 1 },
    ],
    takesPart: isServer,
    measure: async (contestant, plan) => {
      const rate = await perSecond(plan, async () => {
        await output('nbdcopy', args(contestant, plan));
      });
      return rate * (plan.imageBytes / 2 ** 20);
    },
  };
}

/** The same between a daemon and a client that know each other by certificates. */
function tlsRow(name: string, args: (uri: string, plan: Plan) => readonly string[]): Row {
  return {
    name,
    unit: 'MiB/s',
    better: 'more',
    targets: [{ against: 'reference', ratio: 1 }],
    takesPart: isDaemon,
    measure: async (contestant, plan) => {
      const daemon = await startTlsDaemon(contestant, copyOf(plan.image, `tls-${contestant.name}`));
      try {
        // The daemons of the other rows have done such work before, too.
        await output('nbdcopy', args(daemon.uri, plan));
        const start = performance.now();
        await output('nbdcopy', args(daemon.uri, plan));
        return plan.imageBytes / 2 ** 20 / ((performance.now() - start) / 1000);
      } finally {
        await daemon.stop();
      }
    },
  };
}

async function perSecond(plan: Plan, once: () => Promise<void>): Promise<number> {
  const start = performance.now();
  let count = 0;
  while (performance.now() - start < plan.seconds * 1000) {
    await once();
    count += 1;
  }
  return count / ((performance.now() - start) / 1000);
}

/** A fresh daemon with nothing done yet, or a server that has none. */
async function idleMebibytes(contestant: Contestant): Promise<number> {
  if (contestant.qmp === undefined) return residentMebibytes(contestant.pid);
  const daemon = new DaemonProcess(contestant.name === 'ours' ? ours() : reference());
  await daemon.stdio?.negotiate();
  const resident = residentMebibytes(daemon.pid);
  await daemon.stop();
  return resident;
}

export type StartContestant = 'ours' | 'reference' | 'node -e 0';

/** Milliseconds from spawn to the first byte of the greeting, or to the end of `node -e 0`. */
export async function startMilliseconds(who: StartContestant): Promise<number> {
  const side = who === 'node -e 0' ? undefined : who === 'ours' ? ours() : reference();
  const [program, ...before] = side?.command ?? [process.execPath, '-e', '0'];
  const args =
    side === undefined ? before : [...before, '--chardev', 'stdio,id=c', '--monitor', 'c'];
  const start = performance.now();
  const child = spawn(program, args, { env: environment(), stdio: ['pipe', 'pipe', 'ignore'] });
  await (side === undefined ? once(child, 'exit') : once(child.stdout, 'data'));
  const elapsed = performance.now() - start;
  if (side !== undefined) {
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  }
  return elapsed;
}
