// TLS on QMP sockets, both ends of it, against the programs of others: gnutls-cli and gnutls-serv, socat with OpenSSL, and the
// reference's own chardevs.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import { DaemonProcess, environment } from '../conformance/daemon-process.ts';
import { ours, reference, type Side } from '../conformance/side.ts';
import { missing } from '../helpers/reference.ts';
import {
  type CredentialFiles,
  clientFiles,
  contentOf,
  serverFiles,
  writeCredentials,
} from '../helpers/tls-files.ts';

const CLIENT = 'C=GB,O=Example\\, Inc,CN=client1';
const GREETING = '{"QMP": {"version"';
const NEGOTIATE = '{"execute": "qmp_capabilities"}\n';
const DONE = '{"return": {}}';

/** Clients that a server whose list has only CLIENT on it does not let in, and what it finds. */
const strangers: Readonly<Record<string, { files: CredentialFiles; reason: string }>> = {
  'without a certificate': {
    files: { 'ca-cert.pem': 'ca-cert.pem' },
    reason: 'Verify failed: No certificate was found.',
  },
  'with an expired certificate': {
    files: clientFiles('client-expired'),
    reason: 'The certificate is not trusted',
  },
  'with a name that is not on the list': {
    files: clientFiles('client-denied'),
    reason: 'TLS x509 authz check for C=GB,O=Example\\, Inc,CN=nobody is denied',
  },
};

/** A daemon that logs all that it can say; it ends with the test. */
function start(side: Side, files: CredentialFiles, args: readonly string[]): DaemonProcess {
  const daemon = new DaemonProcess(side, {
    files: Object.entries(files).map(([name, source]) => ({ name, text: contentOf(source) })),
    environment: { QSD_LOG: 'json:debug' },
    monitor: args.includes('--monitor') ? 'none' : 'stdio',
    arguments: [...args, '--pidfile', '@DIR@/pid'],
  });
  onTestFinished(async () => {
    expect(await daemon.stop()).toBe('<exit 0>');
  });
  return daemon;
}

/** What the log says at least once from now on. */
async function logged(daemon: DaemonProcess, reason: string): Promise<void> {
  const text = JSON.stringify(`chardev c: ${reason}`).slice(1, -1);
  await expect.poll(() => daemon.stderr).toContain(text);
}

interface Program {
  readonly child: ChildProcess;
  readonly ended: Promise<unknown>;
  /** All that it has printed. */
  said(): string;
  tell(text: string): void;
}

function run(name: string, args: readonly string[]): Program {
  const child = spawn(name, args, { env: environment(), stdio: ['pipe', 'pipe', 'pipe'] });
  const ended = once(child, 'close');
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('latin1').on('data', (text: string) => (said += text));
  }
  child.stdin.on('error', () => {});
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  return { child, ended, said: () => said, tell: (text) => child.stdin.write(text) };
}

/** Greeted with a version, it negotiates. */
async function negotiates(peer: Program): Promise<void> {
  await expect.poll(() => peer.said()).toContain(GREETING);
  peer.tell(NEGOTIATE);
  await expect.poll(() => peer.said()).toContain(DONE);
}

async function freePort(): Promise<string> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return String(port);
}

describe.skipIf(missing('gnutls-cli', 'socat') !== undefined)('a QMP socket under TLS', () => {
  /** Our daemon, waiting for somebody with the name CLIENT. */
  async function waiting(): Promise<{ daemon: DaemonProcess; port: string }> {
    const port = await freePort();
    const rule = `rules.0.match=${CLIENT.replaceAll(',', ',,')},rules.0.policy=allow`;
    const daemon = start(ours(), serverFiles, [
      '--object',
      `authz-list,id=z,${rule}`,
      '--object',
      'tls-creds-x509,id=t,dir=@DIR@,endpoint=server',
      '--chardev',
      `socket,id=c,host=127.0.0.1,port=${port},server=on,wait=off,tls-creds=t,tls-authz=z`,
      '--monitor',
      'c',
    ]);
    await expect.poll(() => existsSync(daemon.path('pid'))).toBe(true);
    return { daemon, port };
  }

  function gnutls(daemon: DaemonProcess, port: string, files: CredentialFiles): Program {
    const directory = writeCredentials(daemon.path(`of-${Object.values(files).join('-')}`), files);
    const certificate = `--x509certfile=${directory}/client-cert.pem`;
    return run('gnutls-cli', [
      `--x509cafile=${directory}/ca-cert.pem`,
      ...('client-cert.pem' in files
        ? [certificate, `--x509keyfile=${directory}/client-key.pem`]
        : []),
      '--verify-hostname=localhost',
      '-p',
      port,
      '127.0.0.1',
    ]);
  }

  it('is for who is on the list, with GnuTLS', async () => {
    const { daemon, port } = await waiting();
    await negotiates(gnutls(daemon, port, clientFiles()));
  });

  it('is for who is on the list, with OpenSSL', async () => {
    const { daemon, port } = await waiting();
    const own = writeCredentials(daemon.path('own'), clientFiles());
    const files = `cafile=${own}/ca-cert.pem,cert=${own}/client-cert.pem,key=${own}/client-key.pem`;
    const address = `OPENSSL:127.0.0.1:${port},commonname=localhost,verify=1,${files}`;
    await negotiates(run('socat', ['STDIO', address]));
  });

  it('is for nobody else, says why, and goes on', async () => {
    const { daemon, port } = await waiting();
    for (const { files, reason } of Object.values(strangers)) {
      const stranger = gnutls(daemon, port, files);
      await logged(daemon, reason);
      await stranger.ended;
      expect(stranger.said()).not.toContain('QMP');
    }
    const own = writeCredentials(daemon.path('other'), { 'ca-cert.pem': 'other-cert.pem' });
    // This one does not want us.
    await run('gnutls-cli', [`--x509cafile=${own}/ca-cert.pem`, '-p', port, '127.0.0.1']).ended;
    await logged(daemon, 'TLS handshake failed: A TLS fatal alert has been received.');
    const plain = connect(Number(port), '127.0.0.1');
    let received = '';
    plain.setEncoding('latin1').on('data', (text: string) => (received += text));
    plain.on('error', () => {}).write(NEGOTIATE);
    await once(plain, 'close');
    expect(received).not.toContain('QMP');
    await logged(daemon, 'TLS handshake failed: An unexpected TLS packet was received.');
    await negotiates(gnutls(daemon, port, clientFiles()));
  });
});

describe.skipIf(missing('gnutls-cli', 'socat') !== undefined)('a QMP socket that calls', () => {
  /** Our daemon, calling whoever is there, again and again. */
  const calling = (port: string, host = '127.0.0.1'): DaemonProcess =>
    start(ours(), clientFiles(), [
      '--object',
      'tls-creds-x509,id=t,dir=@DIR@,endpoint=client',
      '--chardev',
      `socket,id=c,host=${host},port=${port},server=off,reconnect=1,tls-creds=t`,
      '--monitor',
      'c',
    ]);

  function socat(directory: string, port: string, files: CredentialFiles): Program {
    const own = writeCredentials(directory, files);
    const keys = `cert=${own}/server-cert.pem,key=${own}/server-key.pem,cafile=${own}/ca-cert.pem`;
    return run('socat', [`OPENSSL-LISTEN:${port},reuseaddr,fork,verify=1,${keys}`, 'STDIO']);
  }

  it('is served by OpenSSL', async () => {
    const port = await freePort();
    const daemon = calling(port);
    await negotiates(socat(daemon.path('server'), port, serverFiles));
  });

  it('is known by its certificate to GnuTLS', async () => {
    const port = await freePort();
    const daemon = calling(port);
    const own = writeCredentials(daemon.path('server'), serverFiles);
    const server = run('gnutls-serv', [
      `--x509cafile=${own}/ca-cert.pem`,
      `--x509certfile=${own}/server-cert.pem`,
      `--x509keyfile=${own}/server-key.pem`,
      '--require-client-cert',
      '--verify-client-cert',
      '-p',
      port,
    ]);
    await expect.poll(() => server.said()).toContain('CN=client1');
    await expect.poll(() => server.said()).toContain('The certificate is trusted.');
  });

  it.each([
    [
      'a server of another authority',
      '127.0.0.1',
      { 'server-cert.pem': 'server-other-cert.pem' },
      "The certificate hasn't got a known issuer",
    ],
    ['a server elsewhere', '127.0.0.2', {}, 'Certificate does not match the hostname 127.0.0.2'],
  ])('says nothing to %s', async (_who, host, files, reason) => {
    const port = await freePort();
    const daemon = calling(port, host);
    const server = socat(daemon.path('server'), port, { ...serverFiles, ...files });
    await logged(daemon, reason);
    expect(server.said()).not.toContain('QMP');
  });
});

describe.skipIf(missing('qemu-storage-daemon') !== undefined)('chardevs of the reference', () => {
  interface Talker {
    execute(command: string, args?: object): Promise<unknown>;
    /** What query-chardev says. */
    filename(id: string): Promise<string>;
    path(name: string): string;
  }

  async function talker(side: Side): Promise<Talker> {
    const daemon = start(side, {}, []);
    const qmp = daemon.stdio;
    if (qmp === undefined) throw new Error('no monitor on stdio');
    await qmp.negotiate();
    return {
      execute: async (command, args) => qmp.expect(command, args),
      path: (name) => daemon.path(name),
      filename: async (id) => {
        const known = (await qmp.expect('query-chardev')) as { label: string; filename: string }[];
        return known.find(({ label }) => label === id)?.filename ?? '';
      },
    };
  }

  async function credentials(
    of: Talker,
    endpoint: 'client' | 'server',
    [id, files]: readonly [string, CredentialFiles],
  ): Promise<void> {
    const dir = writeCredentials(of.path(id), files);
    // Certificates that are good for nothing are to be shown, too.
    const options = { id, dir, endpoint, 'sanity-check': false };
    await of.execute('object-add', { 'qom-type': 'tls-creds-x509', ...options });
  }

  const address = (port: string): object => ({ type: 'inet', data: { host: '127.0.0.1', port } });

  async function call(from: Talker, port: string, creds: string): Promise<void> {
    const data = { addr: address(port), server: false, reconnect: 1, 'tls-creds': creds };
    await from.execute('chardev-add', { id: creds, backend: { type: 'socket', data } });
    await expect.poll(async () => from.filename(creds)).toContain(' <-> ');
  }

  it.each([
    ['ours', 'the reference', ours, reference],
    ['the reference', 'ours', reference, ours],
  ])('%s lets in %s with the right name, and nobody else', async (_s, _c, server, client) => {
    const [serving, calling] = await Promise.all([talker(server()), talker(client())]);
    await credentials(serving, 'server', ['t', serverFiles]);
    const rules = [{ match: '*CN=client1', policy: 'allow', format: 'glob' }];
    await serving.execute('object-add', { 'qom-type': 'authz-list', id: 'z', rules });
    const options = { server: true, wait: false, 'tls-creds': 't', 'tls-authz': 'z' };
    const backend = { type: 'socket', data: { addr: address('0'), ...options } };
    await serving.execute('chardev-add', { id: 'c', backend });
    const [, port = ''] = /:(\d+),server=on$/.exec(await serving.filename('c')) ?? [];

    // For those who call, the handshake is done before the other end looks at who they are.
    for (const [index, { files }] of Object.values(strangers).entries()) {
      await credentials(calling, 'client', [`stranger${index}`, files]);
      await call(calling, port, `stranger${index}`);
      await calling.execute('chardev-remove', { id: `stranger${index}` });
    }
    await credentials(calling, 'client', ['friend', clientFiles()]);
    await call(calling, port, 'friend');
    const [, own = ''] = /^tcp:(\S+) <->/.exec(await calling.filename('friend')) ?? [];
    // There is room for one: that one is in, so the others are not.
    await expect.poll(async () => serving.filename('c')).toContain(` <-> ${own}`);
  });
});
