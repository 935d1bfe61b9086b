// The nbd driver and other storage daemons, the reference and ourselves: TLS, bitmaps, extended headers, and a server that is
// killed under load.

import { createHash, randomBytes } from 'node:crypto';
import { closeSync, openSync, readFileSync, readSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { missing } from '../helpers/reference.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { clientFiles, pskFiles, serverFiles, writeCredentials } from '../helpers/tls-files.ts';
import { CMD, errorOf, NbdWireClient } from '../protocol/nbd-wire-client.ts';
import { startNbdkit, startProxy, startReferenceServer } from './nbd-servers.ts';
import { succeed } from './serve.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;

const digest = (file: string): string =>
  createHash('sha256').update(readFileSync(file)).digest('hex');

async function mapOf(uri: string): Promise<unknown> {
  return JSON.parse(await succeed('nbdinfo', '--map', '--json', uri));
}

/** A file of random bytes. */
function randomFile(directory: string, name: string, length: number): string {
  const file = path.join(directory, name);
  writeFileSync(file, randomBytes(length));
  return file;
}

const x509 = {
  name: 'certificates',
  type: 'tls-creds-x509',
  server: serverFiles,
  client: clientFiles(),
  more: {},
};
const psk = {
  name: 'keys',
  type: 'tls-creds-psk',
  server: pskFiles,
  client: pskFiles,
  more: { username: 'alice' },
};

describe.skipIf(missing('qemu-storage-daemon', 'nbdcopy', 'nbdinfo') !== undefined)(
  'the reference',
  () => {
    it.each([x509, psk])('under TLS with $name', async ({ type, server, client, more }) => {
      const directory = tempDir();
      const serverDir = writeCredentials(path.join(directory, 'server'), server);
      const clientDir = writeCredentials(path.join(directory, 'client'), client);
      const image = randomFile(directory, 'image', 8 * MIB);
      const [peer, proxy] = await Promise.all([
        startReferenceServer(directory, {
          objects: [`${type},id=t,endpoint=server,dir=${serverDir}`],
          server: 'tls-creds=t',
          blockdevs: [`file,node-name=f,filename=${image}`],
          exports: ['nbd,id=e,node-name=f,name=disk,writable=on'],
        }),
        startProxy(),
      ]);
      await proxy.daemon.qmp.executeAny('object-add', {
        'qom-type': type,
        id: 't',
        endpoint: 'client',
        dir: clientDir,
        ...more,
      });
      const uri = await proxy.serve({
        server: peer.address,
        export: 'disk',
        'tls-creds': 't',
        ...(type === 'tls-creds-x509' ? { 'tls-hostname': 'localhost' } : {}),
      });
      const copy = path.join(directory, 'copy');
      await succeed('nbdcopy', uri, copy);
      expect(digest(copy)).toBe(digest(image));
      const source = randomFile(directory, 'source', 8 * MIB);
      await succeed('nbdcopy', '--flush', source, uri);
      expect(digest(image)).toBe(digest(source));
    });

    it('shows bitmaps and depths as the block status of a node, as to itself', async () => {
      const directory = tempDir();
      const image = path.join(directory, 'a.qcow2');
      await succeed('qemu-img', 'create', '-q', '-f', 'qcow2', image, '16M');
      await succeed('qemu-img', 'bitmap', '--add', '-g', '65536', image, 'b');
      const written = ['-c', 'write 1M 64k', '-c', 'write 5M 192k', '-c', 'write 15M 1M'];
      await succeed('qemu-io', '-f', 'qcow2', ...written, image);
      const peer = await startReferenceServer(directory, {
        blockdevs: [`qcow2,node-name=q,file.driver=file,file.filename=${image}`],
        exports: ['nbd,id=e,node-name=q,name=disk,writable=on,bitmaps.0=b,allocation-depth=on'],
      });
      const ours = await startProxy();
      const theirs = path.join(directory, 'theirs');
      await succeed('mkdir', theirs);
      const contexts = ['qemu:dirty-bitmap:b', 'qemu:allocation-depth'];
      const own = { server: peer.address, export: 'disk', 'read-only': true };
      const second = await startReferenceServer(theirs, {
        blockdevs: contexts.map((context, index) =>
          JSON.stringify({
            driver: 'nbd',
            'node-name': `n${index}`,
            ...own,
            'x-dirty-bitmap': context,
          }),
        ),
        exports: contexts.map((_, index) => `nbd,id=e${index},node-name=n${index},name=n${index}`),
      });
      if (second.address.type !== 'unix') throw new Error('not a unix socket');
      for (const [index, context] of contexts.entries()) {
        const uri = await ours.serve({ ...own, 'x-dirty-bitmap': context });
        const seen = await mapOf(uri);
        expect(seen).toEqual(await mapOf(`nbd+unix:///n${index}?socket=${second.address.path}`));
        expect(seen).toHaveLength(6);
      }
    });

    it('is killed under load: what was acknowledged is there', async () => {
      const directory = tempDir();
      const image = path.join(directory, 'image');
      const blocks = 4096;
      writeFileSync(image, '');
      truncateSync(image, blocks * 4096);
      const serving = {
        blockdevs: [`file,node-name=f,filename=${image}`],
        exports: ['nbd,id=e,node-name=f,name=disk,writable=on'],
      };
      const first = await startReferenceServer(directory, serving);
      const proxy = await startProxy();
      await proxy.serve({ server: first.address, export: 'disk', 'reconnect-delay': 60 });
      const client = await NbdWireClient.ready(proxy.socket, { name: 'n0' });
      const block = (index: number): Buffer => Buffer.alloc(4096, 1 + (index % 255));
      let sent = 0;
      const sendNext = (): void => {
        if (sent === blocks) return;
        const payload = block(sent);
        client.sendRequest({
          type: CMD.WRITE,
          cookie: BigInt(sent),
          offset: sent * 4096,
          length: 4096,
          payload,
        });
        sent++;
      };
      for (let ahead = 0; ahead < 32; ahead++) sendNext();
      let revived: Promise<unknown> | undefined;
      for (let answered = 1; answered <= blocks; answered++) {
        const reply = await client.reply();
        expect(errorOf(reply)?.error ?? 0).toBe(0);
        sendNext();
        if (answered !== 1000) continue;
        revived = first.kill().then(() => startReferenceServer(directory, serving));
      }
      await revived;
      expect(errorOf((await client.request({ type: CMD.FLUSH })).at(-1))?.error ?? 0).toBe(0);
      client.close();
      const bytes = readFileSync(image);
      for (let index = 0; index < blocks; index++) {
        expect(bytes.subarray(index * 4096, (index + 1) * 4096).equals(block(index))).toBe(true);
      }
    });
  },
);

describe.skipIf(missing('nbdcopy', 'nbdinfo') !== undefined)('ourselves', () => {
  it('in a row of three, with extents of more than 4 GiB', async () => {
    const [far, middle, near] = await Promise.all([startProxy(), startProxy(), startProxy()]);
    const image = far.daemon.path('image');
    writeFileSync(image, '');
    truncateSync(image, 9 * GIB);
    const direct = await far.export({ driver: 'file', filename: image, discard: 'unmap' });
    const unix = (socket: string) => ({ type: 'unix', path: socket }) as const;
    await middle.serve({ server: unix(far.socket), export: 'n0' });
    const uri = await near.serve({ server: unix(middle.socket), export: 'n0' });
    const source = randomFile(far.daemon.directory, 'source', 4 * MIB);
    const client = await NbdWireClient.ready(near.socket, { name: 'n0' });
    const write = {
      type: CMD.WRITE,
      offset: 8 * GIB,
      length: 4 * MIB,
      payload: readFileSync(source),
    };
    expect(errorOf((await client.request(write)).at(-1))?.error ?? 0).toBe(0);
    client.close();
    const written = Buffer.alloc(4 * MIB);
    const fd = openSync(image, 'r');
    readSync(fd, written, 0, written.length, 8 * GIB);
    closeSync(fd);
    expect(written.equals(readFileSync(source))).toBe(true);
    expect(await mapOf(uri)).toEqual(await mapOf(direct));
    expect(await mapOf(uri)).toMatchObject([
      { length: 8 * GIB, type: 3 },
      { length: 4 * MIB, type: 0 },
      { length: GIB - 4 * MIB, type: 3 },
    ]);
  });

  it.skipIf(missing('nbdkit') !== undefined)('copies from one server to another', async () => {
    const directory = tempDir();
    const proxy = await startProxy();
    const uris: string[] = [];
    for (const [name, plugin] of [
      ['a', 'pattern'],
      ['b', 'memory'],
    ] as const) {
      const own = path.join(directory, name);
      await succeed('mkdir', own);
      const { address } = await startNbdkit(own, [plugin, '8M']);
      uris.push(await proxy.serve({ server: address, 'read-only': name === 'a' }));
    }
    const [from = '', to = ''] = uris;
    await succeed('nbdcopy', '--flush', from, to);
    const copies = [path.join(directory, 'x'), path.join(directory, 'y')] as const;
    await succeed('nbdcopy', from, copies[0]);
    await succeed('nbdcopy', to, copies[1]);
    expect(digest(copies[1])).toBe(digest(copies[0]));
  });
});
