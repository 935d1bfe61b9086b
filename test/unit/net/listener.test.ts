import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connect } from '../../../src/net/connect.ts';
import { type Listener, type ListenOptions, listen } from '../../../src/net/listener.ts';
import type { SocketAddress } from '../../../src/net/socket-address.ts';
import type { SocketChannel } from '../../../src/net/socket-channel.ts';
import { allocate } from '../../../src/sys/memory.ts';
import { Poller } from '../../../src/sys/poller.ts';

let directory: string;
let poller: Poller;
let listeners: Listener[];
let channels: SocketChannel[];
let clients: Socket[];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'net-'));
  poller = new Poller();
  listeners = [];
  channels = [];
  clients = [];
});

afterEach(() => {
  for (const client of clients) client.destroy();
  for (const channel of channels) channel.close();
  for (const listener of listeners) listener.close({ unlink: true });
  poller.close();
  rmSync(directory, { recursive: true, force: true });
});

async function open(
  address: SocketAddress,
  options: Partial<ListenOptions> = {},
): Promise<Listener> {
  const listener = await listen(address, {
    poller,
    onConnection: (channel) => channels.push(channel),
    ...options,
  });
  listeners.push(listener);
  return listener;
}

/** Opens a listener together with a promise of its next connection. */
async function openAndAwait(
  address: SocketAddress,
): Promise<{ listener: Listener; next: Promise<SocketChannel> }> {
  let arrived: (channel: SocketChannel) => void = () => {};
  const next = new Promise<SocketChannel>((fulfil) => {
    arrived = fulfil;
  });
  const listener = await open(address, {
    onConnection(channel) {
      channels.push(channel);
      arrived(channel);
    },
  });
  return { listener, next };
}

function client(path: string): Promise<Socket> {
  return new Promise((fulfil, reject) => {
    const socket = createConnection(path, () => fulfil(socket));
    socket.on('error', reject);
    clients.push(socket);
  });
}

function refusal(address: SocketAddress): Promise<string> {
  return open(address).then(
    () => 'no error',
    (error: Error) => error.message,
  );
}

function inet(host: string, port: string, more: object = {}): SocketAddress {
  return { type: 'inet', host, port, ...more };
}

function portOf(listener: Listener): string {
  if (listener.address.type !== 'inet') throw new Error('not inet');
  return listener.address.port;
}

describe('listen', () => {
  it('accepts on a unix path and removes the file on close', async () => {
    const path = join(directory, 's');
    const { listener, next } = await openAndAwait({ type: 'unix', path });
    await client(path);
    expect((await next).peer).toBe('unix:');
    expect(listener.address).toEqual({ type: 'unix', path });
    listener.close({ unlink: true });
    expect(existsSync(path)).toBe(false);
  });

  it('leaves the file when it is not asked to remove it', async () => {
    const path = join(directory, 's');
    const listener = await open({ type: 'unix', path });
    listener.close({ unlink: false });
    expect(existsSync(path)).toBe(true);
  });

  it('leaves the file of another socket that took its place', async () => {
    const path = join(directory, 's');
    const first = await open({ type: 'unix', path });
    await open({ type: 'unix', path });
    first.close({ unlink: true });
    expect(existsSync(path)).toBe(true);
  });

  it('replaces a regular file', async () => {
    const path = join(directory, 's');
    writeFileSync(path, 'text');
    await open({ type: 'unix', path });
    await client(path);
  });

  it('makes a temporary socket for the empty path', async () => {
    const { address } = await open({ type: 'unix', path: '' });
    expect(address.type === 'unix' && address.path).toMatch(/\/qemu-socket-[A-Za-z0-9]{6}$/);
  });

  it('serves abstract names, and tells tight ones', async () => {
    const name = `${directory}-abstract`;
    const { listener, next } = await openAndAwait({ type: 'unix', path: name, abstract: true });
    channels.push(await connect({ type: 'unix', path: name, abstract: true }, { poller }));
    await next;
    expect(listener.address).toEqual({ type: 'unix', path: name, abstract: true, tight: true });
  });

  it('takes paths of 108 bytes and refuses longer ones with a hint', async () => {
    await expect(open({ type: 'unix', path: 'x'.repeat(109) })).rejects.toMatchObject({
      message: `UNIX socket path '${'x'.repeat(109)}' is too long`,
      hint: 'Path must be less than 108 bytes',
    });
    await expect(
      open({ type: 'unix', path: 'x'.repeat(108), abstract: true }),
    ).rejects.toMatchObject({ hint: 'Path must be less than 107 bytes' });
    const path = join(directory, 'x'.repeat(107 - directory.length));
    expect(path.length).toBe(108);
    const listener = await open({ type: 'unix', path });
    expect(listener.address).toEqual({ type: 'unix', path });
  });

  it.each([
    [
      { type: 'unix', path: '/nonexistent/x' },
      'Failed to bind socket to /nonexistent/x: No such file or directory',
    ],
    [{ type: 'unix', path: '/' }, 'Failed to unlink socket /: Is a directory'],
    [
      inet('127.0.0.1', 'notaport'),
      'address resolution failed for 127.0.0.1:notaport: Servname not supported for ai_socktype',
    ],
    [inet('', ''), 'address resolution failed for :: Name or service not known'],
    [
      inet('localhost', '0', { numeric: true }),
      'address resolution failed for localhost:0: Name or service not known',
    ],
    [
      inet('127.0.0.1', '0', { ipv4: false }),
      'address resolution failed for 127.0.0.1:0: Address family for hostname not supported',
    ],
    [inet('', '0', { ipv4: false, ipv6: false }), 'Cannot disable IPv4 and IPv6 at same time'],
    [inet('8.8.8.8', '1'), 'Failed to bind socket: Cannot assign requested address'],
    [
      inet('127.0.0.1', '2000', { to: 1990 }),
      'Failed to create a socket: Transport endpoint is not connected',
    ],
    [{ type: 'vsock', cid: 'x', port: '1' }, "Failed to parse cid 'x'"],
    [{ type: 'vsock', cid: '1', port: '-1' }, "Failed to parse port '-1'"],
    [{ type: 'fd', str: 'foo' }, 'Unable to parse FD number foo'],
    [{ type: 'fd', str: '' }, 'Unable to parse FD number '],
    [{ type: 'fd', str: '77' }, "File descriptor '77' is not a socket"],
  ] as const)('refuses %j as the reference does', async (address, text) => {
    expect(await refusal(address)).toBe(text);
  });

  it('knows no descriptor names when they come from a monitor', async () => {
    await expect(open({ type: 'fd', str: '0' }, { fdsByNumber: false })).rejects.toThrow(
      'only QEMU supports file descriptor passing',
    );
  });

  it('reports the port it was given, and takes the next of a range', async () => {
    const first = portOf(await open(inet('127.0.0.1', '0')));
    expect(await refusal(inet('127.0.0.1', first))).toBe(
      'Failed to find an available port: Address already in use',
    );
    const second = await open(inet('127.0.0.1', first, { to: Number(first) + 5 }));
    expect(Number(portOf(second))).toBeGreaterThan(Number(first));
  });

  it('binds the wildcard of both families on one port', async () => {
    const first = portOf(await open(inet('', '0', { ipv4: true })));
    const both = await open(inet('', first, { to: 65535 }));
    expect(both.addresses).toHaveLength(2);
  });

  it('serves both families on one socket when both are asked for', async () => {
    const { listener, next } = await openAndAwait(inet('', '0', { ipv4: true, ipv6: true }));
    expect(listener.address).toMatchObject({ host: '::', ipv6: true });
    channels.push(await connect(inet('127.0.0.1', portOf(listener)), { poller }));
    expect((await next).peer).toMatch(/^\[::ffff:127\.0\.0\.1\]:\d+$/);
  });

  it('keeps connections waiting while it does not accept', async () => {
    const path = join(directory, 's');
    let arrived: (channel: SocketChannel) => void = () => {};
    let next = new Promise<SocketChannel>((fulfil) => {
      arrived = fulfil;
    });
    const listener = await open(
      { type: 'unix', path },
      {
        onConnection(channel) {
          channels.push(channel);
          listener.accept(false);
          arrived(channel);
        },
      },
    );
    await client(path);
    await next;
    next = new Promise<SocketChannel>((fulfil) => {
      arrived = fulfil;
    });
    await client(path);
    expect(channels).toHaveLength(1);
    listener.accept(true);
    await next;
    expect(channels).toHaveLength(2);
  });
});

describe('connect', () => {
  it.each([
    [
      { type: 'unix', path: '/nonexistent/x' },
      "Failed to connect to '/nonexistent/x': No such file or directory",
    ],
    [inet('127.0.0.1', ''), "Failed to connect to '127.0.0.1:': Connection refused"],
    [inet('', '1'), 'address resolution failed for :1: Name or service not known'],
    [
      inet('127.0.0.1', 'no'),
      'address resolution failed for 127.0.0.1:no: Servname not supported for ai_socktype',
    ],
    [{ type: 'fd', str: '77' }, "File descriptor '77' is not a socket"],
  ] as const)('refuses %j as the reference does', async (address, text) => {
    await expect(connect(address, { poller })).rejects.toThrow(text);
  });

  it('waits for a listener whose backlog is full', async () => {
    const path = join(directory, 's');
    const listener = await open({ type: 'unix', path }, { backlog: 0, accepting: false });
    await client(path);
    const late = connect({ type: 'unix', path }, { poller });
    listener.accept(true);
    channels.push(await late);
  });

  it('can be given up', async () => {
    const path = join(directory, 's');
    await open({ type: 'unix', path }, { backlog: 0, accepting: false });
    await client(path);
    const abort = new AbortController();
    const late = connect({ type: 'unix', path }, { poller, signal: abort.signal });
    abort.abort();
    await expect(late).rejects.toThrow('aborted');
  });
});

describe('SocketChannel', () => {
  it('passes bytes both ways and sees the end of the stream', async () => {
    const path = join(directory, 's');
    const { next } = await openAndAwait({ type: 'unix', path });
    const near = await connect({ type: 'unix', path }, { poller });
    channels.push(near);
    const far = await next;
    const memory = allocate(4096);
    memory.bytes.write('hello');
    expect(near.send(memory, 0, 5)).toBe(5);
    expect(far.receive(memory, 100, 4000)).toBe(5);
    expect(memory.bytes.toString('latin1', 100, 105)).toBe('hello');
    const ended = new Promise<number>((fulfil) => {
      far.onReadable = () => fulfil(far.receive(memory, 0, 10));
    });
    far.wantReadable(true);
    near.shutdown();
    expect(await ended).toBe(0);
  });

  it('throws IoError when the peer is gone', async () => {
    const path = join(directory, 's');
    const { next } = await openAndAwait({ type: 'unix', path });
    const near = await connect({ type: 'unix', path }, { poller });
    channels.push(near);
    (await next).close();
    expect(() => near.send(allocate(16), 0, 5)).toThrow('send: Broken pipe (EPIPE)');
  });
});
