// The nbd driver and the servers of others: our daemon between nbdkit, qemu-nbd or nbd-server on one side, and
// libnbd's and QEMU's clients on the other.

import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { AF_UNIX, unixSockaddr } from '../../src/sys/sockaddr.ts';
import { close, connect, socket } from '../../src/sys/socket.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { missing } from '../helpers/reference.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { CMD, errorOf, FLAG, NbdWireClient, type Request } from '../protocol/nbd-wire-client.ts';
import {
  inetAddress,
  startNbdkit,
  startNbdServer,
  startProxy,
  startQemuNbd,
  unixAddress,
} from './nbd-servers.ts';
import { succeed } from './serve.ts';

const MIB = 2 ** 20;

/** A file of random bytes. */
function randomFile(directory: string, length = 4 * MIB): string {
  const file = path.join(directory, 'source');
  writeFileSync(file, randomBytes(length));
  return file;
}

const digest = (file: string): string =>
  createHash('sha256').update(readFileSync(file)).digest('hex');

async function digestOf(uri: string, directory: string): Promise<string> {
  const file = path.join(directory, 'copy');
  await succeed('nbdcopy', uri, file);
  return digest(file);
}

async function mapOf(uri: string): Promise<unknown> {
  return JSON.parse(await succeed('nbdinfo', '--map', '--json', uri));
}

async function errorIn(client: NbdWireClient, request: Request): Promise<number> {
  return errorOf((await client.request(request)).at(-1))?.error ?? 0;
}

const directUri = (directory: string, name = ''): string =>
  `nbd+unix:///${name}?socket=${unixAddress(directory).path}`;

const policy = '--filter=blocksize-policy memory 4M blocksize-error-policy=error';

/** What the server is like, and nbdkit's arguments that make one. */
const writable: readonly (readonly [string, string])[] = [
  ['modern', 'memory 4M'],
  ['without structured replies', '--no-sr memory 4M'],
  ['that is not fixed newstyle', '--mask-handshake=2 memory 4M'],
  ['that pads its handshake', '--mask-handshake=1 memory 4M'],
  ['of the old style', '-o memory 4M'],
  ['that cannot write zeroes', '--filter=nozero memory 4M'],
  ['that has no block status', '--filter=noextents memory 4M'],
  ['that only knows FUA by flushing', '--filter=fua memory 4M fuamode=emulate'],
  [
    'with limits',
    `${policy} blocksize-minimum=4096 blocksize-preferred=4096 blocksize-maximum=65536`,
  ],
  ['with blocks of 64 KiB', `${policy} blocksize-minimum=64k blocksize-preferred=1M`],
];

describe.skipIf(missing('nbdkit', 'nbdcopy', 'nbdinfo') !== undefined)('nbdkit', () => {
  it.each(writable)('%s takes a copy and gives it back', async (_, args) => {
    const directory = tempDir();
    const [server, proxy] = await Promise.all([
      startNbdkit(directory, args.split(' ')),
      startProxy(),
    ]);
    const uri = await proxy.serve({ server: server.address });
    const source = randomFile(directory);
    // Without a flush: nbdkit of the old style refuses those that it offers.
    await succeed('nbdcopy', source, uri);
    expect(await digestOf(uri, directory)).toBe(digest(source));
    const direct = path.join(directory, 'direct');
    await succeed('nbdcopy', '--request-size=65536', directUri(directory), direct);
    expect(digest(direct)).toBe(digest(source));
  });

  it('is read in all its bytes, and with its holes', async () => {
    const directory = tempDir();
    const proxy = await startProxy();
    const servers = [
      ['pattern', '3000320'],
      ['data', 'data=( @512 0x55*100 @1048576 "end" @0x7ffff0 1 )', 'size=16M'],
    ];
    for (const [index, args] of servers.entries()) {
      const name = `${index}.sock`;
      const address = unixAddress(directory, name);
      const own = path.join(directory, String(index));
      await succeed('mkdir', own);
      await startNbdkit(own, ['-r', ...args], address);
      const uri = await proxy.serve({ server: address, 'read-only': true });
      const direct = `nbd+unix:///?socket=${address.path}`;
      expect(await digestOf(uri, own)).toBe(await digestOf(direct, own));
      expect(await mapOf(uri)).toEqual(await mapOf(direct));
    }
  });

  it('fails a request: its error comes through, and the node is good for others', async () => {
    const directory = tempDir();
    const server = await startNbdkit(
      directory,
      '--filter=error memory 1M error-pwrite=ENOSPC error-pwrite-rate=100%'.split(' '),
    );
    const proxy = await startProxy();
    await proxy.serve({ server: server.address });
    const client = await NbdWireClient.ready(proxy.socket, { name: 'n0' });
    const write = { type: CMD.WRITE, length: 512, payload: Buffer.alloc(512, 1) };
    expect(errorOf((await client.request(write)).at(-1))?.error).toBe(28);
    expect(errorOf((await client.request({ type: CMD.READ, length: 512 }, 512)).at(-1))).toBe(
      undefined,
    );
    client.close();
  });

  it('is slow: what was asked for later may come earlier', async () => {
    const directory = tempDir();
    const server = await startNbdkit(
      directory,
      // Longer than this test waits.
      '--filter=delay memory 1M delay-write=600'.split(' '),
    );
    const proxy = await startProxy();
    await proxy.serve({ server: server.address });
    const client = await NbdWireClient.ready(proxy.socket, { name: 'n0' });
    const payload = Buffer.alloc(512, 1);
    client.sendRequest({ type: CMD.WRITE, cookie: 1n, length: 512, payload });
    client.sendRequest({ type: CMD.READ, cookie: 2n, offset: 4096, length: 512 });
    expect(await client.reply(512)).toMatchObject({ cookie: 2n });
    await server.kill();
    const late = await client.reply();
    expect([late.cookie, errorOf(late)?.error]).toEqual([1n, 5]);
    client.close();
  });

  it.each(['127.0.0.1', '::1'])('over TCP at %s', async (host) => {
    const address = await inetAddress(host);
    if (address === undefined) return;
    const directory = tempDir();
    await startNbdkit(directory, ['memory', '4M'], address);
    const proxy = await startProxy();
    const uri = await proxy.serve({ server: address });
    const source = randomFile(directory);
    await succeed('nbdcopy', source, uri);
    expect(await digestOf(uri, directory)).toBe(digest(source));
  });
});

/** Why a socket of this machine cannot be reached over vsock, or undefined when it can. */
const vsockReason = existsSync('/sys/module/vsock_loopback')
  ? undefined
  : 'no vsock within this machine: the module vsock_loopback is not loaded';

describe.skipIf(missing('nbdkit', 'nbdcopy') !== undefined)('a server', () => {
  it('on a connected socket that the daemon inherits', async () => {
    const directory = tempDir();
    const server = await startNbdkit(directory, ['memory', '4M']);
    const fd = socket(AF_UNIX);
    onTestFinished(() => close(fd));
    expect(connect(fd, unixSockaddr(unixAddress(directory).path))).toBe(true);
    const daemon = await startDaemon({
      inherited: [fd],
      args: [
        '--nbd-server',
        'addr.type=unix,addr.path=nbd.sock',
        '--blockdev',
        'nbd,node-name=n,server.type=fd,server.str=3',
        '--export',
        'nbd,id=e,node-name=n,name=n,writable=on',
      ],
    });
    const source = randomFile(directory);
    const uri = `nbd+unix:///n?socket=${daemon.path('nbd.sock')}`;
    await succeed('nbdcopy', source, uri);
    expect(await digestOf(uri, directory)).toBe(digest(source));
    // Over QMP there is no way to it.
    const again = { driver: 'nbd', 'node-name': 'm', server: { type: 'fd', str: '3' } };
    await expect(daemon.qmp.executeAny('blockdev-add', again)).rejects.toThrow(
      'only QEMU supports file descriptor passing',
    );
    await server.kill();
  });

  it.skipIf(vsockReason !== undefined)(
    `over vsock${vsockReason === undefined ? '' : ` (${vsockReason})`}`,
    async () => {
      const directory = tempDir();
      // Somewhere above what programs use by themselves.
      const address = { type: 'vsock', cid: '1', port: String(10_000_000 + process.pid) } as const;
      await startNbdkit(directory, ['--vsock', '-p', address.port, 'memory', '4M'], address);
      const proxy = await startProxy();
      const uri = await proxy.serve({ server: address });
      const source = randomFile(directory);
      await succeed('nbdcopy', source, uri);
      expect(await digestOf(uri, directory)).toBe(digest(source));
    },
  );
});

describe.skipIf(missing('qemu-nbd', 'nbdcopy', 'qemu-img') !== undefined)('qemu-nbd', () => {
  it('has a qcow2 image that we write', async () => {
    const directory = tempDir();
    const image = path.join(directory, 'a.qcow2');
    await succeed('qemu-img', 'create', '-q', '-f', 'qcow2', image, '8M');
    // Room for what is to be written.
    truncateSync(image, 16 * MIB);
    const server = await startQemuNbd(directory, ['-f', 'raw', '-x', 'disk', image]);
    const proxy = await startProxy();
    const uri = await proxy.export({
      driver: 'qcow2',
      file: { driver: 'nbd', server: server.address, export: 'disk' },
    });
    const source = randomFile(directory, 8 * MIB);
    await succeed('nbdcopy', '--flush', source, uri);
    expect(await digestOf(uri, directory)).toBe(digest(source));
    await proxy.daemon.qmp.execute('block-export-del', { id: 'n0', mode: 'hard' });
    await succeed('qemu-img', 'check', '-q', '-U', image);
    await succeed('qemu-img', 'compare', '-q', '-U', '-f', 'raw', '-F', 'qcow2', source, image);
  });

  it('has an image with holes, and keeps them', async () => {
    const directory = tempDir();
    const image = path.join(directory, 'image');
    const source = path.join(directory, 'sparse');
    for (const file of [image, source]) writeFileSync(file, '');
    truncateSync(image, 32 * MIB);
    writeFileSync(source, Buffer.alloc(MIB, 3));
    truncateSync(source, 32 * MIB);
    const server = await startQemuNbd(directory, [
      '-e',
      '0',
      '-f',
      'raw',
      '--discard=unmap',
      image,
    ]);
    const proxy = await startProxy();
    const uri = await proxy.serve({ server: server.address });
    await succeed('nbdcopy', '--flush', source, uri);
    expect(digest(image)).toBe(digest(source));
    expect(await mapOf(uri)).toEqual(await mapOf(directUri(directory)));
    expect(await mapOf(uri)).toMatchObject([
      { length: MIB, type: 0 },
      { length: 31 * MIB, type: 3 },
    ]);
  });
});

const serverReason = missing('nbd-server', 'nbdcopy', 'nbdinfo');

describe.skipIf(serverReason !== undefined)(
  `nbd-server (${serverReason ?? 'simple replies'})`,
  () => {
    const all = 'flush = true\nfua = true\ntrim = true\n';

    it('takes a copy and gives it back, in simple replies, without block status', async () => {
      const directory = tempDir();
      const image = path.join(directory, 'image');
      writeFileSync(image, '');
      truncateSync(image, 4 * MIB);
      const { address } = startNbdServer(directory, image, all);
      const proxy = await startProxy();
      const uri = await proxy.serve({ server: address, export: 'disk', 'open-timeout': 30 });
      expect(await mapOf(uri)).toMatchObject([{ offset: 0, length: 4 * MIB, type: 0 }]);
      const source = randomFile(directory);
      await succeed('nbdcopy', '--flush', source, uri);
      expect(digest(image)).toBe(digest(source));
      expect(await digestOf(uri, directory)).toBe(digest(source));
      const client = await NbdWireClient.ready(proxy.socket, { name: 'n0' });
      for (const request of [
        { type: CMD.WRITE, flags: FLAG.FUA, length: 512, payload: Buffer.alloc(512, 1) },
        { type: CMD.WRITE_ZEROES, offset: 65_536, length: 65_536 },
        { type: CMD.TRIM, offset: MIB, length: 65_536 },
        { type: CMD.CACHE, length: 65_536 },
        { type: CMD.FLUSH },
      ]) {
        const error = await errorIn(client, request);
        expect([request.type, error]).toEqual([request.type, 0]);
      }
      client.close();
      const now = readFileSync(image);
      expect(now.subarray(0, 512).equals(Buffer.alloc(512, 1))).toBe(true);
      expect(now.subarray(65_536, 131_072).equals(Buffer.alloc(65_536))).toBe(true);
    });

    it('that offers nothing but reads is read', async () => {
      const directory = tempDir();
      const source = randomFile(directory);
      const { address } = startNbdServer(directory, source, 'readonly = true\n');
      const proxy = await startProxy();
      const own = { server: address, export: 'disk', 'open-timeout': 30 };
      const uri = await proxy.serve({ ...own, 'read-only': true });
      expect(await digestOf(uri, directory)).toBe(digest(source));
    });

    it('that dies is waited for, and what was acknowledged is there', async () => {
      const directory = tempDir();
      const image = path.join(directory, 'image');
      writeFileSync(image, Buffer.alloc(MIB));
      const first = startNbdServer(directory, image, all);
      const proxy = await startProxy();
      const own = { server: first.address, export: 'disk', 'open-timeout': 30 };
      await proxy.serve({ ...own, 'reconnect-delay': 60 });
      const client = await NbdWireClient.ready(proxy.socket, { name: 'n0' });
      const write = (block: number) => ({
        type: CMD.WRITE,
        offset: block * 512,
        length: 512,
        payload: Buffer.alloc(512, block + 1),
      });
      expect(await errorIn(client, write(0))).toBe(0);
      await first.kill();
      const second = errorIn(client, write(1));
      startNbdServer(directory, image, all);
      expect(await second).toBe(0);
      client.close();
      const expected = Buffer.concat([Buffer.alloc(512, 1), Buffer.alloc(512, 2)]);
      expect(readFileSync(image).subarray(0, 1024).equals(expected)).toBe(true);
    });
  },
);
