// QEMU's own programs for QMP beside the reference: its Python client, qmp-shell, and the scripts that walk the object tree.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DaemonProcess, environment } from '../conformance/daemon-process.ts';
import { ours, reference, type Side } from '../conformance/side.ts';
import { cacheFolder, findProgram, missing, referenceMissing } from '../helpers/reference.ts';

/** Where test/config/install-iotests.sh unpacks them. */
const packages = join(cacheFolder, 'iotests/python');
const reason = existsSync(packages)
  ? (missing('python3') ?? referenceMissing())
  : 'test/config/install-iotests.sh did not unpack them';

const shell = ['-m', 'qemu.qmp.qmp_shell'];
const qom = ['-c', 'import sys; from qemu.utils.qom import main; sys.exit(main())'];

const shellSession = `
query-version
blockdev-add driver=null-co node-name=n size=65536 read-zeroes=true
blockdev-add driver=raw node-name=r file={"driver":"null-co","node-name":"p","size":4096}
query-named-block-nodes flat=true
transaction(
block-dirty-bitmap-add node=n name=a granularity=65536
block-dirty-bitmap-add node=n name=b
)
transaction( block-dirty-bitmap-clear node=n name=a )
transaction( block-dirty-bitmap-clear node=n name=nobody )
block-dirty-bitmap-merge node=n target=a bitmaps=['b',{'node':'n','name':'b'}]
nbd-server-start addr={"type":"unix","data":{"path":"nbd.sock"}}
block-export-add type=nbd id=e node-name=n name=disk writable=True
query-block-exports
blockdev-del node-name=n
no-such-command a=1
blockdev-del node-name=8
nbd-server-stop
blockdev-del node-name=r
blockdev-del node-name=n
`;

const walks: readonly (readonly string[])[] = [
  ['list', '/'],
  ['list', '/objects/t'],
  ['tree', '/'],
  ['get', '/objects/t.x-iops-total'],
  ['get', 'objects/t.x-iops-total'],
  ['get', '/objects/t.limits'],
  ['get', '/nowhere.x'],
  ['set', '/objects/t.x-iops-total', '9'],
  ['set', '/objects/t.x-iops-total', 'nine'],
];

/** A daemon with a monitor at qmp.sock in its directory. */
async function started(side: Side): Promise<DaemonProcess> {
  const daemon = new DaemonProcess(side, {
    monitor: 'none',
    arguments: [
      '--object',
      'secret,id=s,data=hidden',
      '--object',
      'throttle-group,id=t,x-iops-total=7',
      '--chardev',
      'socket,id=q,path=qmp.sock,server=on,wait=off',
      '--monitor',
      'q',
    ],
  });
  (await daemon.connect()).close();
  return daemon;
}

/** Runs Python in the directory of a daemon. What it printed and how it ended, without what tells the two daemons apart. */
async function python(daemon: DaemonProcess, args: readonly string[], input = ''): Promise<string> {
  const child = spawn(findProgram('python3') ?? '', args, {
    cwd: daemon.directory,
    env: { ...environment(), PYTHONPATH: packages, HOME: daemon.directory },
  });
  child.stdin.end(input);
  const [stdout, stderr, [status]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit'),
  ]);
  return `${stdout}${stderr}<exit ${status}>`.replaceAll(/"package": "[^"]*"/g, '"package": ""');
}

/** What a program prints with ours; it is what it prints with the reference. */
async function same(
  daemons: readonly DaemonProcess[],
  args: readonly string[],
  input?: string,
): Promise<string> {
  const [theirs = '', own = ''] = await Promise.all(
    daemons.map((daemon) => python(daemon, args, input)),
  );
  expect(own).toBe(theirs);
  return own;
}

describe.skipIf(reason !== undefined)(
  `QEMU's programs for QMP${reason ? ` (${reason})` : ''}`,
  () => {
    const both = (): Promise<readonly DaemonProcess[]> =>
      Promise.all([started(reference()), started(ours())]);
    let daemons: readonly DaemonProcess[];

    beforeAll(async () => {
      daemons = await both();
    });
    afterAll(async () => {
      await Promise.all(daemons.map((daemon) => daemon.stop()));
    });

    for (const [command = '', path = '', ...more] of walks) {
      it(`qom-${command} ${path} ${more.join(' ')}`, async () => {
        await same(daemons, [...qom, command, '--socket', 'qmp.sock', path, ...more]);
      });
    }

    for (const options of [[], ['--pretty', '--verbose']]) {
      it(`qmp-shell ${options.join(' ')}`, async () => {
        const printed = await same(daemons, [...shell, ...options, 'qmp.sock'], shellSession);
        expect(printed).toMatch(/<exit 0>$/);
      });
    }

    it('the Python client, to the end of the daemon', async () => {
      const session = join(import.meta.dirname, 'python/session.py');
      const served = await both();
      try {
        expect(await same(served, [session, 'qmp.sock'])).toMatch(/<exit 0>$/);
        const ends = await Promise.all(served.map((daemon) => daemon.exited));
        expect(ends.map(({ code }) => code)).toEqual([0, 0]);
      } finally {
        await Promise.all(served.map((daemon) => daemon.stop()));
      }
    });
  },
);
