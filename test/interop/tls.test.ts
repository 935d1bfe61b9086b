// Real TLS clients: libnbd and qemu-img with GnuTLS, nbdkit's nbd plugin, gnutls-cli on a monitor.

import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { DaemonProcess, environment, waitUntil } from '../conformance/daemon-process.ts';
import { NbdPeer } from '../conformance/nbd-peer.ts';
import { ours } from '../conformance/side.ts';
import {
  goPayload,
  NBD_CMD_READ,
  NBD_OPT_GO,
  NBD_OPT_STARTTLS,
} from '../conformance/wire-steps.ts';
import { missing } from '../helpers/reference.ts';
import {
  clientFiles,
  fixture,
  OTHER_PSK,
  PSK,
  pskFiles,
  serverFiles,
  writeCredentials,
} from '../helpers/tls-files.ts';
import { type Ran, run, succeed } from './serve.ts';

const MIB = 1024 * 1024;
const IMAGE_BYTES = 16 * MIB;

let daemon: DaemonProcess | undefined;
afterEach(async () => {
  expect((await daemon?.stop()) ?? '<exit 0>').toBe('<exit 0>');
  daemon = undefined;
});

interface Serving {
  /** The credentials' type, with more of their options. */
  readonly creds?: string;
  /** More of the server's options. */
  readonly server?: string;
  readonly more?: readonly string[];
  /** QSD_LOG; lines as the reference's by default. */
  readonly log?: string;
}

/** Our daemon with an image on an NBD server that wants TLS; its directory holds the credentials of all kinds. */
async function served({
  creds = 'tls-creds-x509',
  server = '',
  more = [],
  log = '',
}: Serving = {}) {
  const started = new DaemonProcess(ours(), {
    files: [
      { name: 'a.img', length: IMAGE_BYTES },
      { name: 'tls', kind: 'directory' },
      ...Object.entries({ ...serverFiles, ...pskFiles }).map(([name]) => ({ name: `tls/${name}` })),
    ],
    arguments: [],
    monitor: 'stdio',
    environment: { QSD_LOG: log },
  });
  daemon = started;
  writeFileSync(started.path('a.img'), randomBytes(IMAGE_BYTES));
  writeCredentials(started.path('tls'), { ...serverFiles, ...pskFiles });
  const qmp = started.stdio;
  if (qmp === undefined) throw new Error('no monitor on stdio');
  await qmp.negotiate();
  const [type, ...options] = creds.split(',');
  const properties = Object.fromEntries(options.map((option) => option.split('=')));
  const execute = async (command: string, args: object): Promise<void> => {
    const lines = await qmp.command(JSON.stringify({ execute: command, arguments: args }));
    expect(lines.map((line) => line.trim())).toEqual(['{"return": {}}']);
  };
  const x509 = type === 'tls-creds-x509';
  await execute('object-add', {
    'qom-type': type,
    id: 't',
    endpoint: 'server',
    ...(type === 'tls-creds-anon' ? {} : { dir: started.path('tls') }),
    ...(x509 && more.includes('watch') ? { 'x-watch': true } : {}),
    ...properties,
  });
  await execute('blockdev-add', {
    driver: 'file',
    'node-name': 'f',
    filename: started.path('a.img'),
  });
  const socket = started.path('nbd.sock');
  await execute('nbd-server-start', {
    addr: { type: 'unix', data: { path: socket } },
    'tls-creds': 't',
    ...(server === '' ? {} : { 'tls-authz': server }),
  });
  await execute('block-export-add', {
    type: 'nbd',
    id: 'e',
    'node-name': 'f',
    name: 'ex',
    writable: true,
  });
  let directories = 0;
  return {
    execute,
    query: async (command: string): Promise<unknown> => qmp.expect(command),
    event: async (name: string): Promise<unknown> => {
      const lines = await qmp.until((line) => line.includes(`"event": "${name}"`));
      return (JSON.parse(lines.at(-1) ?? '') as { data: unknown }).data;
    },
    socket,
    image: () => readFileSync(started.path('a.img')),
    path: (name: string) => started.path(name),
    stderr: () => started.stderr,
    /** A client's URI; its files are made for it. */
    uri: (files = clientFiles()) => {
      directories += 1;
      const directory = writeCredentials(started.path(`client${directories}`), files);
      return `nbds+unix:///ex?socket=${socket}&tls-certificates=${directory}`;
    },
    pskUri: (user: string, key: string) => {
      const file = started.path(`${user}.psk`);
      writeFileSync(file, `${user}:${key}\n`);
      return `nbds+unix://${user}@/ex?socket=${socket}&tls-psk-file=${file}`;
    },
  };
}

type Served = Awaited<ReturnType<typeof served>>;

const size = async (uri: string): Promise<Ran> => run('nbdinfo', ['--size', uri]);

/** What the log says after a client was refused. */
async function refused(server: Served, uri: string): Promise<string> {
  const before = server.stderr().length;
  expect((await size(uri)).status).not.toBe(0);
  await waitUntil(() => server.stderr().length > before, 30_000);
  return server.stderr().slice(before).trim();
}

/** A client with a certificate that uses the export. */
async function entered(server: Served): Promise<NbdPeer> {
  const peer = await NbdPeer.connect(server.socket);
  await peer.greet(3);
  peer.sendOption(NBD_OPT_STARTTLS, Buffer.alloc(0));
  await peer.optionReplies();
  const own = { cert: fixture('client-cert.pem'), key: fixture('client-key.pem') };
  const trust = { ca: fixture('ca-cert.pem'), checkServerIdentity: () => undefined };
  expect(await peer.startTls({ ...own, ...trust })).toBe('tls TLSv1.3');
  peer.sendOption(NBD_OPT_GO, goPayload('ex', []));
  expect((await peer.optionReplies()).at(-1)).toBe('option 7 reply 0x1');
  return peer;
}

describe.skipIf(missing('nbdinfo', 'nbdcopy') !== undefined)('libnbd over TLS', () => {
  it('copies an image out and in', async () => {
    const server = await served();
    const uri = server.uri();
    await succeed('nbdcopy', uri, server.path('out.img'));
    expect(readFileSync(server.path('out.img')).equals(server.image())).toBe(true);
    writeFileSync(server.path('in.img'), randomBytes(IMAGE_BYTES));
    await succeed('nbdcopy', '--flush', server.path('in.img'), uri);
    expect(server.image().equals(readFileSync(server.path('in.img')))).toBe(true);
    expect(server.stderr()).toBe('');
  });

  it.each(['NORMAL:-VERS-TLS1.3', 'NORMAL:-VERS-TLS1.2'])(
    'with the priority %s',
    async (priority) => {
      const server = await served({ creds: `tls-creds-x509,priority=${priority}` });
      expect((await size(server.uri())).stdout.trim()).toBe(String(IMAGE_BYTES));
    },
  );

  it('tells that the connection is under TLS', async () => {
    const server = await served();
    expect(await succeed('nbdinfo', server.uri())).toContain('with TLS');
  });

  it('refuses those that should not be there, says why, and leaves the others alone', async () => {
    const server = await served({ server: 'list' });
    await server.execute('object-add', {
      'qom-type': 'authz-list',
      id: 'list',
      rules: [{ match: 'C=GB,O=Example\\, Inc,CN=client1', policy: 'allow' }],
    });
    const good = spawn('nbdcopy', [server.uri(), server.path('long.img')], {
      env: environment(),
      stdio: 'ignore',
    });
    const finished = once(good, 'exit');
    const failed = 'qmp-storage-daemon: option negotiation failed: ';
    expect(await refused(server, server.uri({ 'ca-cert.pem': 'ca-cert.pem' }))).toBe(
      `${failed}Verify failed: No certificate was found.`,
    );
    expect(await refused(server, server.uri(clientFiles('client-expired')))).toBe(
      `${failed}The certificate is not trusted`,
    );
    expect(await refused(server, server.uri(clientFiles('client-denied')))).toBe(
      `${failed}TLS x509 authz check for C=GB,O=Example\\, Inc,CN=nobody is denied`,
    );
    // This one refuses us: its CA is another.
    const stranger = { ...clientFiles('client-other'), 'ca-cert.pem': 'other-cert.pem' };
    expect(await refused(server, server.uri(stranger))).toContain(failed);
    // In the clear nothing is to be had, and nothing is logged.
    const clear = await size(`nbd+unix:///ex?socket=${server.socket}`);
    expect(clear.status).not.toBe(0);
    expect((await size(server.uri())).status).toBe(0);
    expect(await finished).toEqual([0, null]);
    expect(readFileSync(server.path('long.img')).equals(server.image())).toBe(true);
  });

  it('says in the JSON log who was refused, and who did not want TLS at all', async () => {
    const server = await served({ server: 'nobody', log: 'json:debug' });
    const entries = (): object[] =>
      server
        .stderr()
        .split('\n')
        .filter((line) => line.endsWith('}'))
        .map((line) => JSON.parse(line) as object);
    const peer = 'unix:';
    expect((await size(`nbd+unix:///ex?socket=${server.socket}`)).status).not.toBe(0);
    const plain = { msg: 'NBD client left without TLS, which is required', level: 20, peer };
    await expect.poll(entries).toContainEqual(expect.objectContaining(plain));
    expect((await size(server.uri())).status).not.toBe(0);
    const denied = 'option negotiation failed: Cannot find QAuthZ object ID nobody';
    await expect
      .poll(entries)
      .toContainEqual(expect.objectContaining({ msg: denied, level: 50, peer }));
  });

  it('tells who is there by what they have proved', async () => {
    const server = await served();
    await server.execute('x-nbd-client-events', { enable: true });
    const client = await entered(server);
    const identity = { 'tls-identity': 'C=GB,O=Example\\, Inc,CN=client1' };
    expect(await server.event('X_NBD_CLIENT_CONNECTED')).toMatchObject(identity);
    await client.requests([{ type: NBD_CMD_READ, length: 4096 }]);
    const using = { ...identity, 'export-id': 'e', 'bytes-read': 4096 };
    expect(await server.query('x-query-nbd-clients')).toMatchObject([using]);
    await server.execute('x-nbd-client-disconnect', { id: 1 });
    expect(await server.event('X_NBD_CLIENT_DISCONNECTED')).toMatchObject(identity);
    expect((await client.listen('the end')).at(-1)).toBe('<closed>');
  });

  it('takes new certificates on request, and drops nobody', async () => {
    const server = await served();
    const uri = server.uri();
    const held = await entered(server);
    const tls = server.path('tls');
    writeFileSync(path.join(tls, 'ca-cert.pem'), fixture('other-cert.pem'));
    writeFileSync(path.join(tls, 'server-cert.pem'), fixture('server-other-cert.pem'));
    // Nothing has changed before it is asked for.
    expect((await size(uri)).status).toBe(0);
    await server.execute('x-tls-creds-reload', { id: 't' });
    expect((await size(uri)).status).not.toBe(0);
    const fresh = { ...clientFiles('client-other'), 'ca-cert.pem': 'other-cert.pem' };
    expect((await size(server.uri(fresh))).status).toBe(0);
    const [read = ''] = await held.requests([{ type: NBD_CMD_READ, length: 16 }]);
    expect(read).toContain(server.image().toString('hex', 0, 16));
    held.close();
  });

  it('knows users by their keys, as the file is when they come', async () => {
    const server = await served({ creds: 'tls-creds-psk' });
    expect((await size(server.pskUri('alice', PSK))).status).toBe(0);
    expect(await refused(server, server.pskUri('bob', PSK))).toContain('TLS handshake failed');
    expect(await refused(server, server.pskUri('alice', OTHER_PSK))).toContain(
      'TLS handshake failed',
    );
    writeFileSync(path.join(server.path('tls'), 'keys.psk'), `bob:${PSK}\n`);
    expect((await size(server.pskUri('bob', PSK))).status).toBe(0);
  });

  it('takes new certificates without a restart, and drops nobody', async () => {
    const server = await served({ more: ['watch'] });
    const uri = server.uri();
    const held = await entered(server);
    // A CA of its own for the next certificates: who trusts only the old one does not get in any more.
    const tls = server.path('tls');
    const next = { 'ca-cert.pem': 'other-cert.pem', 'server-cert.pem': 'server-other-cert.pem' };
    for (const [name, source] of Object.entries(next)) {
      writeFileSync(path.join(tls, `${name}.new`), fixture(source));
    }
    for (const name of Object.keys(next)) {
      renameSync(path.join(tls, `${name}.new`), path.join(tls, name));
    }
    const stranger = { ...clientFiles('client-other'), 'ca-cert.pem': 'other-cert.pem' };
    const fresh = server.uri(stranger);
    await expect.poll(async () => (await size(fresh)).status).toBe(0);
    expect((await size(uri)).status).not.toBe(0);
    const [read = ''] = await held.requests([{ type: NBD_CMD_READ, length: 16 }]);
    expect(read).toContain(server.image().toString('hex', 0, 16));
    held.close();
  });
});

describe.skipIf(missing('qemu-img') !== undefined)('qemu-img over TLS', () => {
  const options = (socket: string, hostname: string): string =>
    `driver=nbd,server.type=unix,server.path=${socket},export=ex,tls-creds=t${hostname}`;

  it.each([
    [
      'x509',
      'tls-creds-x509',
      'tls-creds-x509,id=t,endpoint=client,dir=CLIENT',
      ',tls-hostname=localhost',
    ],
    ['psk', 'tls-creds-psk', 'tls-creds-psk,id=t,endpoint=client,dir=TLS,username=alice', ''],
    ['anon', 'tls-creds-anon', 'tls-creds-anon,id=t,endpoint=client', ''],
  ])('converts an image with %s credentials', async (_name, creds, object, hostname) => {
    const server = await served({ creds });
    const client = writeCredentials(server.path('client'), clientFiles());
    const text = object.replace('CLIENT', client).replace('TLS', server.path('tls'));
    const source = options(server.socket, hostname);
    const out = server.path('out.img');
    await succeed(
      'qemu-img',
      'convert',
      '--object',
      text,
      '--image-opts',
      source,
      '-O',
      'raw',
      out,
    );
    expect(readFileSync(out).equals(server.image())).toBe(true);
  });

  it('does not take us for somebody else', async () => {
    const server = await served();
    const client = writeCredentials(server.path('client'), clientFiles());
    const object = `tls-creds-x509,id=t,endpoint=client,dir=${client}`;
    const source = options(server.socket, ',tls-hostname=elsewhere');
    const { status, stderr } = await run('qemu-img', [
      'info',
      '--object',
      object,
      '--image-opts',
      source,
    ]);
    expect(status).not.toBe(0);
    expect(stderr).toContain('Certificate does not match the hostname elsewhere');
  });
});

describe.skipIf(missing('nbdkit', 'nbdcopy') !== undefined)('nbdkit over TLS', () => {
  it('reads through the nbd plugin', async () => {
    const server = await served();
    const client = writeCredentials(server.path('client'), clientFiles());
    const out = server.path('out.img');
    await succeed(
      'nbdkit',
      '-U',
      '-',
      'nbd',
      `socket=${server.socket}`,
      'export=ex',
      'tls=require',
      `tls-certificates=${client}`,
      '--run',
      `nbdcopy "$uri" ${out}`,
    );
    expect(readFileSync(out).equals(server.image())).toBe(true);
  });
});

describe.skipIf(missing('gnutls-cli') !== undefined)('gnutls-cli on a monitor', () => {
  it('talks to a QMP socket under TLS, with a certificate on the list', async () => {
    const port = await freePort();
    const started = new DaemonProcess(ours(), { files: [], monitor: 'stdio' });
    daemon = started;
    writeCredentials(started.path('tls'), { ...serverFiles, ...clientFiles() });
    await started.stdio?.negotiate();
    const execute = async (command: string, args: object): Promise<readonly string[] | undefined> =>
      started.stdio?.command(JSON.stringify({ execute: command, arguments: args }));
    await execute('object-add', {
      'qom-type': 'tls-creds-x509',
      id: 't',
      dir: started.path('tls'),
      endpoint: 'server',
    });
    await execute('object-add', {
      'qom-type': 'authz-simple',
      id: 'z',
      identity: 'C=GB,O=Example\\, Inc,CN=client1',
    });
    const addr = { type: 'inet', data: { host: '127.0.0.1', port: String(port) } };
    const backend = {
      type: 'socket',
      data: { addr, server: true, wait: false, 'tls-creds': 't', 'tls-authz': 'z' },
    };
    await execute('chardev-add', { id: 'c', backend });
    const client = spawn(
      'gnutls-cli',
      [
        '--x509cafile',
        started.path('tls/ca-cert.pem'),
        '--x509certfile',
        started.path('tls/client-cert.pem'),
        '--x509keyfile',
        started.path('tls/client-key.pem'),
        '--verify-hostname=localhost',
        '-p',
        String(port),
        '127.0.0.1',
      ],
      { env: environment(), stdio: ['pipe', 'pipe', 'ignore'] },
    );
    let said = '';
    client.stdout.setEncoding('latin1').on('data', (text: string) => (said += text));
    await waitUntil(() => said.includes('Simple Client Mode'), 30_000);
    expect(said).toContain('Handshake was completed');
    const connected = `tcp:127.0.0.1:${port},server=on <-> 127.0.0.1:`;
    await expect.poll(async () => (await execute('query-chardev', {}))?.[0]).toContain(connected);
    client.stdin.end();
    await once(client, 'exit');
  });
});

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}
