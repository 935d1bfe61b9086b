// The rows about FUSE exports: requests to the file past the kernel's page cache, so that each reaches the daemon.

import { DaemonProcess } from '../conformance/daemon-process.ts';
import { ours, reference } from '../conformance/side.ts';
import { rootFuseMissing } from '../helpers/fuse.ts';
import { type Contestant, copyOf } from './contestants.ts';
import { type FioJob, fioOnFile } from './programs.ts';
import type { Row } from './rows.ts';

const missing = rootFuseMissing();

/** Seconds of load before anything is measured: a daemon that serves a mount has done so for a while. */
const WARM_UP = 1;

export const fuseRows: readonly Row[] = [
  row('FUSE, 4 KiB random read, depth 1', { rw: 'randread', bs: '4k', depth: 1 }),
  row('FUSE, 4 KiB random read, depth 16', { rw: 'randread', bs: '4k', depth: 16 }),
  row('FUSE, 4 KiB random write, depth 16', { rw: 'randwrite', bs: '4k', depth: 16 }),
  row('FUSE, 256 KiB sequential read', { rw: 'read', bs: '256k', depth: 8 }),
  row('FUSE, 256 KiB sequential write', { rw: 'write', bs: '256k', depth: 8 }),
];

function row(name: string, job: FioJob): Row {
  return {
    name,
    unit: job.bs === '4k' ? 'IOPS' : 'MiB/s',
    better: 'more',
    targets: [{ against: 'reference', ratio: 1 }],
    takesPart: (contestant) => missing === undefined && contestant.qmp !== undefined,
    measure: async (contestant, { image, imageBytes, seconds }) => {
      const daemon = started(contestant, copyOf(image, `${contestant.name}.fuse`));
      await daemon.stdio?.negotiate();
      try {
        const file = daemon.path('m');
        await fioOnFile(file, { seconds: WARM_UP, bytes: imageBytes }, job);
        const result = await fioOnFile(file, { seconds, bytes: imageBytes }, job);
        const done = job.bs === '4k' ? result.requests : result.bytes / 2 ** 20;
        return done / result.seconds;
      } finally {
        await daemon.stop();
      }
    },
  };
}

function started(contestant: Contestant, image: string): DaemonProcess {
  return new DaemonProcess(contestant.name === 'ours' ? ours() : reference(), {
    files: [{ name: 'm' }],
    arguments: [
      '--blockdev',
      `file,node-name=f,filename=${image}`,
      '--export',
      'fuse,id=e,node-name=f,mountpoint=@DIR@/m,writable=on',
    ],
  });
}
