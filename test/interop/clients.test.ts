import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { waitUntil } from '../conformance/daemon-process.ts';
import { NbdPeer } from '../conformance/nbd-peer.ts';
import { reference } from '../conformance/side.ts';
import { goPayload, NBD_CMD_READ, NBD_CMD_WRITE, NBD_OPT_GO } from '../conformance/wire-steps.ts';
import { fuseMissing } from '../helpers/fuse.ts';
import { missing } from '../helpers/reference.ts';
import { exported, type Served, serve, succeed } from './serve.ts';

const MIB = 1024 * 1024;
let served: Served | undefined;
afterEach(async () => {
  expect((await served?.stop()) ?? '<exit 0>').toBe('<exit 0>');
  served = undefined;
});

async function enter(socket: string, name = 'ex'): Promise<NbdPeer> {
  const peer = await NbdPeer.connect(socket);
  await peer.greet(3);
  peer.sendOption(NBD_OPT_GO, goPayload(name, []));
  expect((await peer.optionReplies()).at(-1)).toBe('option 7 reply 0x1');
  return peer;
}

describe('many clients', () => {
  it('serves a hundred at once, each its own part of the image', async () => {
    served = await serve({
      files: [{ name: 'a.img', length: 64 * MIB }],
      arguments: exported('a.img'),
    });
    const { socket } = served;
    const peers = await Promise.all(Array.from({ length: 100 }, async () => enter(socket)));
    const block = 65_536;
    await Promise.all(
      peers.map(async (peer, at) => {
        for (let round = 0; round < 5; round++) {
          const payload = Buffer.alloc(block, at + round + 1);
          const [written] = await peer.requests([
            { type: NBD_CMD_WRITE, offset: at * block, payload },
          ]);
          expect(written).toBe('simple error 0');
          const [read] = await peer.requests([
            { type: NBD_CMD_READ, offset: at * block, length: block },
          ]);
          expect(read).toBe(`simple error 0 ${block} bytes of 0x${(at + round + 1).toString(16)}`);
        }
      }),
    );
    for (const peer of peers) peer.close();
    const image = readFileSync(served.path('a.img'));
    for (let at = 0; at < 100; at++) expect(image[at * block]).toBe(at + 5);
  });

  it('lets the hundred and first wait until one leaves', async () => {
    served = await serve({ files: [{ name: 'a.img', length: MIB }], arguments: exported('a.img') });
    const { socket } = served;
    const peers = await Promise.all(Array.from({ length: 100 }, async () => enter(socket)));
    const late = await NbdPeer.connect(socket);
    expect(await late.listen('nothing', 150)).toEqual(['<nothing>']);
    peers[0]?.close();
    expect(await late.greet(3)).toMatch(/^greeting /);
    for (const peer of [...peers, late]) peer.close();
  });

  it('closes what is left of clients that vanish', async () => {
    served = await serve({ files: [{ name: 'a.img', length: MIB }], arguments: exported('a.img') });
    for (let at = 0; at < 300; at++) {
      const peer = await NbdPeer.connect(served.socket);
      if (at % 3 > 0) await peer.greet(3);
      if (at % 3 === 2) peer.sendOption(NBD_OPT_GO, goPayload('ex', []));
      peer.close();
    }
    const peer = await enter(served.socket);
    expect(await peer.requests([{ type: NBD_CMD_READ, length: 4 }])).toEqual([
      'simple error 0 00000000',
    ]);
    peer.close();
  });
});

const tcpReason = missing('nbdinfo', 'nbdcopy');
describe.skipIf(tcpReason !== undefined)(`over TCP${tcpReason ? ` (${tcpReason})` : ''}`, () => {
  it('serves the first free port of a range, to IPv4 and IPv6 names of this machine', async () => {
    served = await serve({
      files: [{ name: 'a.img', length: 4 * MIB, fill: [[MIB, MIB, 0x42]] }],
      arguments: exported('a.img'),
    });
    await served.qmp.expect('nbd-server-stop');
    const port = await freePort();
    await served.qmp.expect('nbd-server-start', {
      addr: { type: 'inet', data: { host: 'localhost', port: String(port), to: port + 10 } },
    });
    await served.qmp.expect('block-export-add', {
      type: 'nbd',
      id: 'e',
      'node-name': 'f',
      name: 'ex',
    });
    const uri = `nbd://localhost:${port}/ex`;
    expect(await succeed('nbdinfo', '--size', uri)).toBe(`${4 * MIB}\n`);
    const copy = served.path('copy.img');
    await succeed('nbdcopy', uri, copy);
    expect(readFileSync(copy).equals(readFileSync(served.path('a.img')))).toBe(true);
  });
});

/** A port that was free a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' && address !== null ? address.port : 0;
}

const referenceReason = missing('qemu-storage-daemon', 'qemu-io');
describe.skipIf(referenceReason !== undefined)(
  `the reference as a client${referenceReason ? ` (${referenceReason})` : ''}`,
  () => {
    it('attaches our export with blockdev-add and exports it on', async () => {
      served = await serve({
        files: [{ name: 'a.img', length: 16 * MIB, fill: [[0, 65_536, 0x42]] }],
        arguments: exported('a.img'),
      });
      const proxy = await serve({ side: reference() });
      try {
        await proxy.qmp.expect('blockdev-add', {
          driver: 'nbd',
          'node-name': 'remote',
          export: 'ex',
          server: { type: 'unix', path: served.socket },
        });
        await proxy.qmp.expect('block-export-add', {
          type: 'nbd',
          id: 'p',
          'node-name': 'remote',
          name: 'ex',
          writable: true,
        });
        const commands = [
          'read -P 0x42 0 64k',
          'write -P 0x24 1M 1M',
          'flush',
          'write -z 0 4k',
          'read -P 0 0 4k',
        ];
        const text = await succeed(
          'qemu-io',
          '-f',
          'raw',
          ...commands.flatMap((c) => ['-c', c]),
          proxy.uri(),
        );
        expect(text).not.toMatch(/failed|Pattern/);
        await proxy.qmp.expect('block-export-del', { id: 'p', mode: 'hard' });
        await proxy.qmp.expect('blockdev-del', { 'node-name': 'remote' });
      } finally {
        await proxy.stop();
      }
      const image = readFileSync(served.path('a.img'));
      expect(image.subarray(MIB, 2 * MIB).every((byte) => byte === 0x24)).toBe(true);
      expect(image.subarray(0, 4096).every((byte) => byte === 0)).toBe(true);
    });
  },
);

const nbdkitReason = missing('nbdkit', 'nbdcopy');
const hasPlugin = [
  '/usr/lib/x86_64-linux-gnu',
  '/usr/lib/aarch64-linux-gnu',
  '/usr/lib64',
  '/usr/lib',
].some((folder) => existsSync(`${folder}/nbdkit/plugins/nbdkit-nbd-plugin.so`));
const proxyReason = nbdkitReason ?? (hasPlugin ? undefined : "nbdkit's nbd plugin not found");
describe.skipIf(proxyReason !== undefined)(
  `nbdkit as a proxy${proxyReason ? ` (${proxyReason})` : ''}`,
  () => {
    it('copies through to an equal file', async () => {
      served = await serve({
        files: [{ name: 'a.img', length: 16 * MIB, fill: [[MIB, MIB, 0x42]] }],
        arguments: exported('a.img'),
      });
      const copy = served.path('copy.img');
      const plugin = ['nbd', `socket=${served.socket}`, 'export=ex', 'shared=true'];
      await succeed('nbdkit', '-U', '-', '-r', ...plugin, '--run', `nbdcopy "$uri" ${copy}`);
      const digest = (path: string): string =>
        createHash('sha256').update(readFileSync(path)).digest('hex');
      expect(digest(copy)).toBe(digest(served.path('a.img')));
    });
  },
);

const nbdfuseReason = missing('nbdfuse', 'fusermount3') ?? fuseMissing();
describe.skipIf(nbdfuseReason !== undefined)(
  `nbdfuse${nbdfuseReason ? ` (${nbdfuseReason})` : ''}`,
  () => {
    it('shows the export as a file that is read and written', async () => {
      served = await serve({
        files: [
          { name: 'a.img', length: 16 * MIB, fill: [[MIB, MIB, 0x42]] },
          { name: 'new', length: MIB, fill: [[0, MIB, 0x24]] },
          { name: 'mounted', length: 0 },
        ],
        arguments: exported('a.img'),
      });
      const [mounted, pidfile] = [served.path('mounted'), served.path('nbdfuse.pid')];
      const nbdfuse = spawn('nbdfuse', ['-P', pidfile, mounted, served.uri()]);
      const ended = once(nbdfuse, 'exit');
      try {
        await waitUntil(() => existsSync(pidfile) || nbdfuse.exitCode !== null, 30_000);
        await succeed('cmp', mounted, served.path('a.img'));
        const writing = ['bs=100k', 'seek=5M', 'oflag=seek_bytes', 'conv=notrunc,fsync'];
        await succeed('dd', `if=${served.path('new')}`, `of=${mounted}`, ...writing);
        await succeed(
          'cmp',
          '-n',
          `${MIB}`,
          '-i',
          `${5 * MIB}:0`,
          served.path('a.img'),
          served.path('new'),
        );
        await succeed('fusermount3', '-u', mounted);
        expect(await ended).toEqual([0, null]);
      } finally {
        nbdfuse.kill();
      }
    });
  },
);

const fioReason = missing('fio');
describe.skipIf(fioReason !== undefined)(`fio${fioReason ? ` (${fioReason})` : ''}`, () => {
  it('verifies every block that it wrote at random', async () => {
    served = await serve({
      files: [{ name: 'a.img', length: 32 * MIB }],
      arguments: exported('a.img'),
    });
    const text = await succeed(
      'fio',
      '--name=verify',
      '--ioengine=nbd',
      `--uri=${served.uri()}`,
      '--rw=randwrite',
      '--bsrange=512-128k',
      '--bs_unaligned=0',
      '--iodepth=32',
      '--size=24M',
      '--verify=crc32c',
      '--verify_fatal=1',
      '--verify_state_save=0',
      '--do_verify=1',
      '--fsync=64',
      '--output-format=json',
    );
    const report = JSON.parse(text.slice(text.indexOf('{'))) as {
      jobs: { error: number; read: { total_ios: number } }[];
    };
    expect(report.jobs[0]?.error).toBe(0);
    expect(report.jobs[0]?.read.total_ios).toBeGreaterThan(0);
  });
});
