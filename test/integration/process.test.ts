// The daemon as a process: readiness, signals, the background, what is left behind.

import { once } from 'node:events';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { createConnection, createServer, type Socket } from 'node:net';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { QmpClient } from '../../src/client/qmp-client.ts';
import type { ChardevBackend } from '../../src/qapi/generated/types.ts';
import { root } from '../config/shared.ts';
import { runProgram, startDaemon } from '../helpers/daemon.ts';
import { fileGone, fileThere, fileWritten } from '../helpers/files.ts';
import { tempDir } from '../helpers/temp-dir.ts';

const dist = path.join(root, 'dist');
const monitor = ['--chardev', 'socket,id=c,path=s,server=on,wait=off', '--monitor', 'c'];

function imageIn(directory: string): void {
  writeFileSync(path.join(directory, 'i.img'), '');
  truncateSync(path.join(directory, 'i.img'), 1024 * 1024);
}

const exportImage = [
  '--blockdev',
  'file,node-name=n,filename=i.img',
  '--nbd-server',
  'addr.type=unix,addr.path=nbd.sock',
  '--export',
  'nbd,id=e,node-name=n',
];

describe('pidfile', () => {
  it("holds the pid, is the owner's, and appears when everything is ready", async () => {
    const directory = tempDir();
    imageIn(directory);
    const daemon = await startDaemon({ directory, args: exportImage });
    expect(readFileSync(daemon.path('pid'), 'latin1')).toBe(`${daemon.child.pid}\n`);
    expect(statSync(daemon.path('pid')).mode & 0o777).toBe(0o600);
    expect(await daemon.qmp.execute('query-block-exports')).toMatchObject([{ id: 'e' }]);
  });

  it('is refused to a second daemon', async () => {
    const daemon = await startDaemon();
    const { outcome } = runProgram({ directory: daemon.directory, args: ['--pidfile', 'pid'] });
    expect(await outcome).toMatchObject({
      code: 1,
      stderr:
        'qmp-storage-daemon: cannot create PID file: Cannot lock pid file: Resource temporarily unavailable\n',
    });
    expect(existsSync(daemon.path('pid'))).toBe(true);
  });

  it("stays where it is another daemon's when the first one ends", async () => {
    const first = await startDaemon();
    unlinkSync(first.path('pid'));
    const second = runProgram({ directory: first.directory, args: ['--pidfile', 'pid'] });
    await fileWritten(first.path('pid'));
    first.child.kill('SIGTERM');
    expect(await first.outcome).toMatchObject({ code: 0, stderr: '' });
    expect(readFileSync(first.path('pid'), 'latin1')).toBe(`${second.child.pid}\n`);
    second.child.kill('SIGTERM');
    expect(await second.outcome).toMatchObject({ code: 0, stderr: '' });
    expect(existsSync(first.path('pid'))).toBe(false);
  });

  it('is no device, which stays where it is', async () => {
    const directory = tempDir();
    const link = path.join(directory, 'pid');
    symlinkSync('/dev/null', link);
    const { outcome } = runProgram({ directory, args: ['--pidfile', 'pid'] });
    const message = 'Failed to truncate pid file: Invalid argument';
    expect(await outcome).toMatchObject({
      code: 1,
      stderr: `qmp-storage-daemon: cannot create PID file: ${message}\n`,
    });
    expect(readlinkSync(link)).toBe('/dev/null');
  });

  it('may be a directory by then', async () => {
    const daemon = await startDaemon();
    unlinkSync(daemon.path('pid'));
    mkdirSync(daemon.path('pid'));
    daemon.child.kill('SIGTERM');
    expect(await daemon.outcome).toMatchObject({ code: 0, stderr: '' });
  });

  it.each([
    ['/nonexistent/p', `Could not create '/nonexistent/p': No such file or directory`],
    ['', `Could not create '': No such file or directory`],
  ])('that cannot be made is reported: %j', async (file, message) => {
    const { outcome } = runProgram({ directory: tempDir(), args: ['--pidfile', file] });
    expect(await outcome).toMatchObject({
      code: 1,
      stderr: `qmp-storage-daemon: cannot create PID file: ${message}\n`,
    });
  });
});

describe('signals', () => {
  it.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)(
    '%s ends it cleanly: exports first, with their events, then monitors and files',
    async (signal) => {
      const directory = tempDir();
      imageIn(directory);
      const daemon = await startDaemon({ directory, args: exportImage });
      const events = daemon.qmp.events();
      daemon.child.kill(signal);
      expect(await daemon.outcome).toEqual({ code: 0, signal: null, stdout: '', stderr: '' });
      expect((await events.next()).value).toMatchObject({ data: { id: 'e' } });
      expect((await events.next()).done).toBe(true);
      expect(
        ['pid', 'qmp.sock', 'nbd.sock'].filter((file) => existsSync(daemon.path(file))),
      ).toEqual(['nbd.sock']);
    },
  );

  it.each(['SIGUSR1', 'SIGPIPE'] as const)('%s changes nothing', async (signal) => {
    const daemon = await startDaemon();
    daemon.child.kill(signal);
    expect(await daemon.qmp.execute('query-block')).toEqual([]);
    daemon.child.kill('SIGTERM');
    expect(await daemon.outcome).toMatchObject({ code: 0, stderr: '' });
  });

  it('SIGTERM ends it while a chardev waits for its peer', async () => {
    const directory = tempDir();
    const { child, outcome } = runProgram({
      directory,
      args: ['--chardev', 'socket,id=c,path=s,server=on,wait=on', '--pidfile', 'pid'],
    });
    await fileThere(path.join(directory, 's'));
    child.kill('SIGTERM');
    expect(await outcome).toMatchObject({ code: 0, signal: null });
  });

  it('ends it although a command waits for a peer that does not come', async () => {
    const daemon = await startDaemon();
    const listening = fileThere(daemon.path('peer'));
    const command = daemon.qmp.execute('chardev-add', {
      id: 'w',
      backend: {
        type: 'socket',
        data: { addr: { type: 'unix', data: { path: daemon.path('peer') } }, wait: true },
      },
    });
    const failed = expect(command).rejects.toThrow();
    await listening;
    daemon.child.kill('SIGTERM');
    expect(await daemon.outcome).toMatchObject({ code: 0, signal: null });
    await failed;
    expect(existsSync(daemon.path('peer'))).toBe(false);
  });
});

/** A daemon whose job `j` wants to make an image, in a node `n`, on a server that never answers; `peer` is its connection. */
async function startSilentJob(): Promise<{
  readonly daemon: Awaited<ReturnType<typeof startDaemon>>;
  readonly peer: Socket;
}> {
  const daemon = await startDaemon();
  const silent = createServer();
  const connected = once(silent, 'connection');
  silent.listen(daemon.path('silent'));
  onTestFinished(() => void silent.close());
  const server = { type: 'unix', path: daemon.path('silent') } as const;
  await daemon.qmp.execute('blockdev-create', {
    'job-id': 'j',
    options: { driver: 'qcow2', size: 1024, file: { driver: 'nbd', 'node-name': 'n', server } },
  });
  const [peer] = (await connected) as [Socket];
  return { daemon, peer };
}

describe('quit', () => {
  it('answers after the events of its work, and ends the process', async () => {
    const directory = tempDir();
    imageIn(directory);
    const daemon = await startDaemon({ directory, args: exportImage });
    const seen: string[] = [];
    daemon.qmp.onEvent(({ event }) => seen.push(event));
    await daemon.qmp.execute('quit').then(() => seen.push('return'));
    expect(seen).toEqual(['BLOCK_EXPORT_DELETED', 'return']);
    expect(await daemon.outcome).toMatchObject({ code: 0, stderr: '' });
  });

  it('does not wait for a job that waits for a server that says nothing', async () => {
    const { daemon } = await startSilentJob();
    await expect(
      daemon.qmp.execute('block-export-add', { type: 'nbd', id: 'e', 'node-name': 'n' }),
    ).rejects.toThrow("Cannot find device='' nor node-name='n'");
    await daemon.qmp.execute('quit');
    expect(await daemon.outcome).toMatchObject({ code: 0, signal: null });
  });
});

describe('--daemonize', () => {
  it('returns when the daemon is ready, and leaves it in the background', async () => {
    const directory = tempDir();
    const { outcome } = runProgram({
      directory,
      args: ['--daemonize', ...monitor, '--pidfile', 'pid'],
    });
    expect(await outcome).toEqual({ code: 0, signal: null, stdout: '', stderr: '' });
    const pid = Number(readFileSync(path.join(directory, 'pid'), 'latin1'));
    onTestFinished(() => endProcess(pid));
    expect(readlinkSync(`/proc/${pid}/cwd`)).toBe('/');
    expect([0, 1, 2].map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`))).toEqual(
      Array(3).fill('/dev/null'),
    );
    expect(readFileSync(`/proc/${pid}/status`, 'latin1')).toMatch(/^Umask:\t0027$/m);
    expect(sessionOf(pid)).not.toBe(sessionOf(process.pid));
    const qmp = await QmpClient.connect({ path: path.join(directory, 's') });
    await qmp.execute('quit');
    await fileGone(path.join(directory, 'pid'));
    expect(existsSync(path.join(directory, 's'))).toBe(false);
  });

  it('reports on stderr what goes wrong at the start', async () => {
    const { outcome } = runProgram({
      directory: tempDir(),
      args: ['--daemonize', '--blockdev', 'file,node-name=f,filename=nope'],
    });
    expect(await outcome).toMatchObject({
      code: 1,
      stderr: `qmp-storage-daemon: --blockdev file,node-name=f,filename=nope: Could not open 'nope': No such file or directory\n`,
    });
  });

  it('does not go with a chardev on stdin and stdout', async () => {
    const { outcome } = runProgram({
      directory: tempDir(),
      args: ['--daemonize', '--chardev', 'stdio,id=c'],
    });
    expect(await outcome).toMatchObject({
      code: 1,
      stderr: 'qmp-storage-daemon: --chardev stdio,id=c: cannot use stdio with -daemonize\n',
    });
  });
});

describe('standard output', () => {
  const pty = ['--chardev', 'pty,id=p'];
  const redirected = /^char device redirected to \/dev\/pts\/\d+ \(label p\)\n$/;

  it.each([
    ['before', (stdio: readonly string[]) => [...pty, ...stdio]],
    ['behind', (stdio: readonly string[]) => [...stdio, ...pty]],
  ])(
    'carries nothing but QMP for a monitor, with a pseudo-terminal %s it',
    async (_where, args) => {
      const stdio = ['--chardev', 'stdio,id=s', '--monitor', 's'];
      const daemon = await startDaemon({ args: args(stdio) });
      await daemon.qmp.execute('quit');
      expect((await daemon.outcome).stdout).toMatch(/^{"QMP": [^\r\n]*}\r\n$/);
    },
  );

  it("tells which pseudo-terminal a chardev got, where it is nobody's", async () => {
    const daemon = await startDaemon({ args: pty });
    await daemon.qmp.execute('quit');
    expect((await daemon.outcome).stdout).toMatch(redirected);
  });

  it('tells it when the start fails, too', async () => {
    const args = [...pty, '--chardev', 'stdio,id=s', '--blockdev', 'file'];
    const outcome = await runProgram({ directory: tempDir(), args }).outcome;
    expect(outcome.code).toBe(1);
    expect(outcome.stdout).toMatch(redirected);
  });
});

describe('monitors', () => {
  it('can be several; each hears of events', async () => {
    const directory = tempDir();
    imageIn(directory);
    const daemon = await startDaemon({ directory, args: [...exportImage, ...monitor] });
    const other = await QmpClient.connect({ path: daemon.path('s') });
    onTestFinished(() => other.close());
    const heard = other.waitForEvent('BLOCK_EXPORT_DELETED');
    await daemon.qmp.execute('block-export-del', { id: 'e' });
    expect(await heard).toEqual({ id: 'e' });
  });
});

describe('a job that waits for a server that says nothing', () => {
  it('holds up no other change of the graph', async () => {
    const { qmp } = (await startSilentJob()).daemon;
    await qmp.execute('blockdev-add', { driver: 'null-co', 'node-name': 'other' });
    const named = { 'node-name': 'n' } as const;
    await expect(qmp.execute('blockdev-add', { driver: 'null-co', ...named })).rejects.toThrow(
      "Duplicate nodes with node-name='n'",
    );
    await expect(
      qmp.execute('blockdev-add', { driver: 'raw', 'node-name': 'r', file: 'n' }),
    ).rejects.toThrow("Cannot find device='n' nor node-name='n'");
    await expect(qmp.execute('blockdev-del', named)).rejects.toThrow(
      'Node n is not owned by the monitor',
    );
    const nodes = await qmp.execute('query-named-block-nodes');
    expect(nodes.map((node) => node['node-name'])).toEqual(['other']);
  });

  it('ends when it is cancelled, and lets go of the server', async () => {
    const { daemon, peer } = await startSilentJob();
    const { qmp } = daemon;
    await qmp.execute('job-cancel', { id: 'j' });
    await once(peer.resume(), 'close');
    for (;;) {
      const [job] = await qmp.execute('query-jobs');
      if (job?.status !== 'concluded') continue;
      expect(job.error).toBe('Operation canceled');
      break;
    }
    await qmp.execute('job-dismiss', { id: 'j' });
    await qmp.execute('blockdev-add', { driver: 'null-co', 'node-name': 'n' });
  });
});

describe('Ctrl-A x at a multiplexer', () => {
  it('ends the daemon, after the events of the end', async () => {
    const directory = tempDir();
    imageIn(directory);
    const [option, chardev = '', ...rest] = monitor;
    const args = [...exportImage, option ?? '', `${chardev},mux=on`, ...rest];
    const daemon = await startDaemon({ directory, args });
    const socket = createConnection(daemon.path('s')).setEncoding('latin1');
    let heard = '';
    socket.on('data', (text) => {
      heard += text;
    });
    socket.write('{"execute": "qmp_capabilities"}\n');
    while (!heard.includes('return')) await once(socket, 'data');
    socket.write('\x01x');
    await once(socket, 'end');
    expect(heard).toMatch(/return": \{\}\}\r\nQEMU: Terminated\n\r.*BLOCK_EXPORT_DELETED.*\r\n$/s);
    expect(await daemon.outcome).toMatchObject({ code: 0, signal: null, stderr: '' });
  });
});

describe('logs', () => {
  it('are JSON when QSD_LOG says so', async () => {
    const { outcome } = runProgram({
      directory: tempDir(),
      args: ['--blockdev', 'file,node-name=f,filename=nope'],
      env: { QSD_LOG: 'json' },
    });
    const { code, stderr } = await outcome;
    expect(code).toBe(1);
    expect(JSON.parse(stderr)).toMatchObject({
      level: 50,
      name: 'qmp-storage-daemon',
      at: '--blockdev file,node-name=f,filename=nope',
      msg: `Could not open 'nope': No such file or directory`,
    });
  });
});

function endProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended already.
  }
}

/** The session that a process belongs to. */
function sessionOf(pid: number): string | undefined {
  return readFileSync(`/proc/${pid}/stat`, 'latin1')
    .replace(/^.*\) /, '')
    .split(' ')[3];
}

describe('a daemon whose package is gone', () => {
  it('has read all that commands need', async () => {
    const directory = tempDir();
    const copy = path.join(directory, 'dist');
    symlinkSync(path.join(root, 'node_modules'), path.join(directory, 'node_modules'));
    for (const part of ['main.js', 'package.json', 'parts']) {
      cpSync(path.join(dist, part), path.join(copy, part), { recursive: true });
    }
    const daemon = await startDaemon({ command: [process.execPath, path.join(copy, 'main.js')] });
    const { qmp } = daemon;
    await qmp.execute('query-version');
    rmSync(copy, { recursive: true });

    const backends: readonly ChardevBackend[] = [
      { type: 'null', data: {} },
      { type: 'file', data: { out: daemon.path('out') } },
      { type: 'pipe', data: { device: daemon.path('out') } },
      { type: 'pty', data: {} },
      { type: 'ringbuf', data: {} },
    ];
    for (const backend of backends) {
      await qmp.execute('chardev-add', { id: backend.type, backend });
    }
    await qmp.execute('query-qmp-schema');
    await qmp.execute('object-add', { 'qom-type': 'secret', id: 's', data: 'x' });
    await qmp.execute('qom-set', { path: '/objects/s', property: 'format', value: 'base64' });
  });

  it('whatever is loaded later than the start is in a pack', () => {
    const parts = readdirSync(path.join(dist, 'parts')).filter((name) => name.endsWith('.js'));
    const alone = parts.filter((name) => !parts.includes(name.replace('.js', '.pack.js')));
    // The process that goes to the background has no commands to carry out.
    expect(alone.filter((name) => !/\.pack\.js$|^daemonize-/.test(name))).toEqual([]);
  });
});
