// QEMU's own tests (tests/qemu-iotests), with our daemon in the place of the reference's: on raw and qcow2 images that lie on a FUSE
// export of ours, on raw disks behind our NBD server, and of block nodes, where our daemon stands for a virtual machine without a
// guest. Those are named here that pass with the reference and are done within seconds.

import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { environment } from '../conformance/daemon-process.ts';
import { ours } from '../conformance/side.ts';
import { rootFuseMissing } from '../helpers/fuse.ts';
import { cacheFolder, findProgram, missing, pythonWithNbd } from '../helpers/reference.ts';

/** Where test/config/install-iotests.sh unpacks them. */
const unpacked = join(cacheFolder, 'iotests');
const LIMIT_MS = 400_000;

interface Suite {
  readonly name: string;
  readonly options: readonly string[];
  readonly missing: string | undefined;
  /** What is started as a virtual machine. Default: QEMU, which none of the tests needs. */
  readonly machine?: string;
  readonly tests: readonly string[];
}

const python = pythonWithNbd();
const machine = join(import.meta.dirname, 'iotests/qemu.sh');

const suites: readonly Suite[] = [
  {
    name: 'raw images on a FUSE export',
    options: ['-raw', '-fuse'],
    missing: rootFuseMissing(),
    tests: [
      '001',
      '002',
      '003',
      '004',
      '005',
      '008',
      '009',
      '010',
      '011',
      '021',
      '032',
      '104',
      '171',
      '221',
    ],
  },
  {
    name: 'qcow2 images on a FUSE export',
    options: ['-qcow2', '-fuse'],
    missing: rootFuseMissing(),
    tests:
      '027 035 037 046 047 050 054 062 090 103 107 114 133 137 138 158 177 204 217 250 252 265 268 272 279 290'.split(
        ' ',
      ),
  },
  {
    name: 'raw disks behind an NBD server',
    options: ['-raw', '-nbd'],
    missing: undefined,
    tests: [
      '001',
      '002',
      '003',
      '004',
      '008',
      '009',
      '010',
      '011',
      '021',
      '032',
      '033',
      '077',
      '104',
      '123',
    ],
  },
  {
    name: 'qcow2 images in the place of a virtual machine',
    options: ['-qcow2'],
    missing: missing('setpriv'),
    machine,
    tests: [
      ...'057 065 117 120 143 165 176 184 208 214 216 228 236 242 246 273'.split(' '),
      ...(rootFuseMissing() === undefined ? ['108'] : []),
      ...(python === undefined ? [] : ['nbd-multiconn']),
    ],
  },
  {
    name: 'raw images in the place of a virtual machine',
    options: ['-raw'],
    missing: missing('setpriv'),
    machine,
    tests: ['081', '175'],
  },
];

function iotestsMissing(): string | undefined {
  if (!existsSync(join(unpacked, 'complete')))
    return 'test/config/install-iotests.sh did not unpack them';
  return missing(
    'qemu-img',
    'qemu-io',
    'qemu-nbd',
    'qemu-storage-daemon',
    'qemu-system-x86_64',
    'python3',
  );
}

/** The report of QEMU's runner: a line for each test, and how its output differs from what it should be. */
async function check({ options, tests, machine: program }: Suite): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'qsd-iotests-'));
  const daemon = ours().command.join(' ');
  const standIn = join(directory, 'storage-daemon.sh');
  writeFileSync(standIn, `#!/bin/sh\nexec ${daemon} "$@"\n`, { mode: 0o755 });
  const images = join(directory, 'images');
  mkdirSync(images);
  const env = {
    ...environment(),
    PATH: [...(python === undefined ? [] : [dirname(python)]), process.env['PATH']].join(':'),
    DAEMON: daemon,
    QSD_PROG: standIn,
    QEMU_NBD_PROG: join(import.meta.dirname, 'iotests/qemu-nbd.sh'),
    QEMU_PROG: program ?? findProgram('qemu-system-x86_64'),
    QEMU_IMG_PROG: findProgram('qemu-img'),
    QEMU_IO_PROG: findProgram('qemu-io'),
    TEST_DIR: images,
    OUTPUT_DIR: images,
  };
  try {
    return await new Promise((resolve) => {
      const cwd = join(unpacked, 'tests/qemu-iotests');
      const settings = { cwd, env, timeout: LIMIT_MS, maxBuffer: 1 << 26 };
      execFile('./check', [...options, ...tests], settings, (_error, stdout, stderr) => {
        resolve(stdout + stderr);
      });
    });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** What the report says of one test: its verdict, and the difference that follows it. */
function verdictOf(report: string, test: string): string {
  const begin = report.search(new RegExp(`^${test} +(?:pass|fail|not run)\\b`, 'm'));
  if (begin === -1) return `not run:\n${report}`;
  const rest = report.slice(begin + test.length).trimStart();
  const end = rest.search(/^(?:\d{3} |Passed all|Failures: |Not run: |Failed )/m);
  return rest.slice(0, end === -1 ? undefined : end);
}

const absent = iotestsMissing();
for (const suite of suites) {
  const reason = absent ?? suite.missing;
  const note = reason === undefined ? '' : ` (${reason})`;
  describe.skipIf(reason !== undefined)(`QEMU's own tests, ${suite.name}${note}`, () => {
    let report = '';
    beforeAll(async () => {
      report = (await check(suite)).replaceAll('\r', '\n');
    }, LIMIT_MS);
    for (const test of suite.tests) {
      it(test, () => {
        expect(verdictOf(report, test)).toMatch(/^pass/);
      });
    }
  });
}
