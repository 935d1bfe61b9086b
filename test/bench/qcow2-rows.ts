// The rows about qcow2 images: requests on one that has all of its clusters, on one that must allocate them, and opening a
// large one.

import { existsSync, rmSync } from 'node:fs';
import { DaemonProcess } from '../conformance/daemon-process.ts';
import { ours, reference } from '../conformance/side.ts';
import { type Contestant, residentMebibytes } from './contestants.ts';
import { type FioJob, fio, output } from './programs.ts';
import type { Plan, Row } from './rows.ts';

/** Bytes of the image that requests go to: its L2 tables fit into the default caches. */
const IMAGE_BYTES = 256 * 2 ** 20;
const LARGE_BYTES = 2 ** 40;

const isDaemon = (contestant: Contestant): boolean => contestant.qmp !== undefined;

export const qcow2Rows: readonly Row[] = [
  fioRow('qcow2, 4 KiB random read, depth 16', { rw: 'randread', bs: '4k', depth: 16 }, 1.5),
  fioRow('qcow2, 4 KiB random write, depth 16', { rw: 'randwrite', bs: '4k', depth: 16 }, 1.5),
  fioRow('qcow2, 256 KiB sequential read', { rw: 'read', bs: '256k', depth: 8 }, 1),
  {
    name: 'qcow2, allocating write',
    unit: 'MiB/s',
    better: 'more',
    targets: [{ against: 'reference', ratio: 1 }],
    takesPart: isDaemon,
    measure: async (contestant, plan) => {
      const image = await emptyImage(plan, contestant, IMAGE_BYTES);
      return withDaemon(contestant, image, async (uri) => {
        const source = `${plan.image}.source`;
        if (!existsSync(source)) {
          await output('dd', [`if=${plan.image}`, `of=${source}`, 'bs=1M', 'count=256']);
        }
        const start = performance.now();
        await output('nbdcopy', [source, uri]);
        return IMAGE_BYTES / 2 ** 20 / ((performance.now() - start) / 1000);
      });
    },
  },
  openRow('qcow2, opening 1 TiB', 'ms', 50, async (_daemon, open) => {
    const start = performance.now();
    await open();
    return performance.now() - start;
  }),
  openRow('qcow2, memory for 1 TiB', 'MiB', 30, async (daemon, open) => {
    const before = residentMebibytes(daemon.pid);
    await open();
    return residentMebibytes(daemon.pid) - before;
  }),
];

/** Requests to an image whose clusters are all there. */
function fioRow(name: string, job: FioJob, ratio: number): Row {
  return {
    name,
    unit: job.bs === '4k' ? 'IOPS' : 'MiB/s',
    better: 'more',
    targets: [{ against: 'reference', ratio }],
    takesPart: isDaemon,
    measure: async (contestant, plan) => {
      const image = `${plan.image}.${contestant.name}.qcow2`;
      if (!existsSync(image)) {
        await output('qemu-img', ['create', '-f', 'qcow2', image, String(IMAGE_BYTES)]);
        await output('qemu-io', ['-f', 'qcow2', '-c', `write -P 7 0 ${IMAGE_BYTES}`, image]);
      }
      return withDaemon(contestant, image, async (uri) => {
        const result = await fio(uri, { seconds: plan.seconds, bytes: IMAGE_BYTES }, job);
        const done = job.bs === '4k' ? result.requests : result.bytes / 2 ** 20;
        return done / result.seconds;
      });
    },
  };
}

/** What it takes to add a node for an empty image of 1 TiB to a daemon that has opened a small one before. */
function openRow(
  name: string,
  unit: string,
  bound: number,
  measure: (daemon: DaemonProcess, open: () => Promise<unknown>) => Promise<number>,
): Row {
  return {
    name,
    unit,
    better: 'less',
    targets: [],
    bound,
    takesPart: isDaemon,
    measure: async (contestant, plan) => {
      const small = await emptyImage(plan, contestant, 2 ** 20);
      const large = await emptyImage(plan, contestant, LARGE_BYTES);
      const daemon = started(contestant, small);
      await daemon.stdio?.negotiate();
      try {
        const options = `{"driver":"qcow2","node-name":"t","file":{"driver":"file","filename":"${large}"}}`;
        const command = `{"execute":"blockdev-add","arguments":${options}}`;
        return await measure(daemon, async () => daemon.stdio?.command(command));
      } finally {
        await daemon.stop();
      }
    },
  };
}

async function emptyImage(plan: Plan, contestant: Contestant, bytes: number): Promise<string> {
  const image = `${plan.image}.${contestant.name}.${bytes}.qcow2`;
  rmSync(image, { force: true });
  await output('qemu-img', ['create', '-f', 'qcow2', image, String(bytes)]);
  return image;
}

function started(contestant: Contestant, image: string): DaemonProcess {
  return new DaemonProcess(contestant.name === 'ours' ? ours() : reference(), {
    arguments: [
      '--blockdev',
      `qcow2,node-name=f,file.driver=file,file.filename=${image}`,
      '--nbd-server',
      'addr.type=unix,addr.path=@DIR@/nbd.sock',
      '--export',
      'nbd,id=e,node-name=f,name=,writable=on',
    ],
  });
}

async function withDaemon(
  contestant: Contestant,
  image: string,
  measure: (uri: string) => Promise<number>,
): Promise<number> {
  const daemon = started(contestant, image);
  await daemon.stdio?.negotiate();
  try {
    return await measure(`nbd+unix:///?socket=${daemon.path('nbd.sock')}`);
  } finally {
    await daemon.stop();
  }
}
