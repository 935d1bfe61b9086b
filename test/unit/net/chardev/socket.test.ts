import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { ChardevBackend, ChardevSocket } from '../../../../src/qapi/generated/types.ts';
import {
  addOptions,
  attached,
  client,
  directory,
  failureOf,
  filenames,
  logged,
  registry,
  sockets,
  unix,
} from './registry-fixture.ts';

function inet(port: string, more: Partial<ChardevSocket> = {}): ChardevBackend {
  const addr = { type: 'inet', data: { host: '127.0.0.1', port } } as const;
  return { type: 'socket', data: { addr, ...more } };
}

const upgradeRequest =
  'GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n';

describe('socket chardev', () => {
  it('serves one peer at a time; the next is served when it leaves', async () => {
    await registry.add('c', unix('s'));
    const { chardev, listener } = attached('c');
    expect(chardev.filename()).toBe(`disconnected:unix:${directory}/s,server=on`);
    const first = await client('s');
    await listener.until('open');
    expect(chardev.filename()).toBe(`unix:${directory}/s,server=on`);
    const second = await client('s');
    second.socket.write('second');
    first.socket.write('first');
    await listener.until('first');
    chardev.write(Buffer.from('to first'));
    await first.until('to first');
    first.socket.end();
    await listener.until('close|open|second');
    chardev.write(Buffer.from('to second'));
    await second.until('to second');
  });

  it('reads nothing while input is not accepted', async () => {
    await registry.add('c', unix('s'));
    const { chardev, listener } = attached('c');
    const peer = await client('s');
    await listener.until('open');
    chardev.acceptInput(false);
    peer.socket.end('late');
    const other = await client('s');
    await new Promise((fulfil) => setImmediate(fulfil));
    expect(listener.heard).toEqual([]);
    chardev.acceptInput(true);
    await listener.until('late|close|open');
    other.socket.end();
    await listener.until('close');
  });

  it('tells its user to wait when the peer does not read, keeps the order, and sends all of it', async () => {
    await registry.add('c', unix('s'));
    const { chardev, listener } = attached('c');
    const peer = await client('s');
    peer.socket.pause();
    await listener.until('open');
    const chunk = Buffer.alloc(100_000, 'x');
    let written = 0;
    while (chardev.write(chunk)) written += 1;
    expect(written).toBeLessThan(20);
    chardev.write(Buffer.from('end'));
    peer.socket.resume();
    await listener.until('drain');
    const text = await peer.until('end');
    expect(text.length).toBe((written + 1) * chunk.length + 3);
  });

  it('sends the rest to a peer that sends no more, then drops it', async () => {
    await registry.add('c', unix('s'));
    const { chardev, listener } = attached('c');
    const peer = await client('s');
    peer.socket.pause();
    await listener.until('open');
    chardev.write(Buffer.alloc(1_000_000, 'x'));
    chardev.write(Buffer.from('end'));
    peer.socket.end('bye');
    await listener.until('bye');
    peer.socket.resume();
    await peer.until('end');
    await listener.until('close');
  });

  it('notices that the peer of a chardev without a user has closed', async () => {
    await registry.add('c', unix('s'));
    const first = await client('s');
    first.socket.destroy();
    const second = await client('s');
    while (!filenames()[0]?.startsWith('c unix:')) await new Promise((f) => setImmediate(f));
    const { listener, chardev } = attached('c');
    second.socket.write('hello');
    while (!listener.heard.includes('hello')) await new Promise((f) => setImmediate(f));
    chardev.write(Buffer.from('ok'));
    await second.until('ok');
  });

  it('keeps what a peer that half-closes has sent before the user of a command line chardev is there', async () => {
    await addOptions('socket,c', { path: join(directory, 's'), server: 'on', wait: 'off' });
    const peer = await client('s');
    peer.socket.end('hello');
    while (!filenames()[0]?.startsWith('c unix:')) await new Promise((f) => setImmediate(f));
    const { listener } = attached('c');
    await listener.until('open|hello|close');
  });

  it('names both ends of a tcp connection', async () => {
    await registry.add('c', inet('0'));
    const { listener, chardev } = attached('c');
    const port = /:(\d+),server=on$/.exec(chardev.filename())?.[1] ?? '';
    expect(chardev.filename()).toBe(`disconnected:tcp:127.0.0.1:${port},server=on`);
    await registry.add('d', inet(port, { server: false, nodelay: true }));
    await listener.until('open');
    const far = registry.find('d')?.filename() ?? '';
    const [, own] = /^tcp:127\.0\.0\.1:(\d+) <-> 127\.0\.0\.1:\d+$/.exec(far) ?? [];
    expect(chardev.filename()).toBe(`tcp:127.0.0.1:${port},server=on <-> 127.0.0.1:${own}`);
  });

  it('waits for the first peer when asked to, and says so', async () => {
    const added = registry.add('c', unix('s', { wait: true }));
    while (!existsSync(join(directory, 's'))) await new Promise((f) => setImmediate(f));
    expect(registry.find('c')).toBeUndefined();
    await client('s');
    await added;
    expect(logged).toEqual([
      `info: QEMU waiting for connection on: disconnected:unix:${directory}/s,server=on`,
    ]);
    await attached('c').listener.until('open');
  });

  it('connects again after a while when asked to, and reports the first failure only', async () => {
    await registry.add('c', unix('s', { server: false, reconnect: 1 }));
    const { chardev, listener } = attached('c');
    expect(chardev.filename()).toBe(`disconnected:unix:${directory}/s`);
    while (logged.length === 0) await new Promise((f) => setImmediate(f));
    expect(logged).toEqual([
      `Unable to connect character device c: Failed to connect to '${directory}/s': No such file or directory`,
    ]);
    const server = createServer((socket) => socket.end('hello'));
    sockets.push(server);
    server.listen(join(directory, 's'));
    await listener.until('open|hello|close');
    expect(logged).toHaveLength(1);
  });

  it('announces telnet and takes its commands out of the input', async () => {
    await registry.add('c', unix('s', { telnet: true }));
    const { listener } = attached('c');
    const peer = await client('s');
    await listener.until('open');
    const greeting = '\xff\xfb\x01\xff\xfb\x03\xff\xfb\x00\xff\xfd\x00';
    expect(await peer.until('\xfd\x00')).toBe(greeting);
    peer.socket.write(Buffer.from('a\xff\xfd\x03b\xff\xffc', 'latin1'));
    await listener.until('ab\xffc');
  });

  it('opens a WebSocket only after its upgrade', async () => {
    await registry.add('c', unix('s', { websocket: true }));
    const { listener, chardev } = attached('c');
    const peer = await client('s');
    peer.socket.write(upgradeRequest);
    expect(await peer.until('\r\n\r\n')).toContain('Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=');
    await listener.until('open');
    chardev.write(Buffer.from('hi'));
    await peer.until('\x82\x02hi');
  });

  it('keeps no more pongs than fit for a WebSocket peer that does not read', async () => {
    await registry.add('c', unix('s', { websocket: true }));
    const { listener, chardev } = attached('c');
    const peer = await client('s');
    peer.socket.write(upgradeRequest);
    await listener.until('open');
    peer.socket.pause();
    const mask = Buffer.alloc(4);
    const ping = Buffer.concat([Buffer.of(0x89, 0x80 | 125), mask, Buffer.alloc(125)]);
    const pings = Buffer.concat(Array.from({ length: 40_000 }, () => ping));
    peer.socket.write(pings);
    peer.socket.write(Buffer.concat([Buffer.of(0x82, 0x83), mask, Buffer.from('end')]));
    await listener.until('end');
    chardev.write(Buffer.from('bye'));
    peer.socket.resume();
    const { length } = await peer.until('\x82\x03bye');
    expect(length).toBeGreaterThan(1024 * 1024);
    expect(length).toBeLessThan(pings.length / 2);
  });

  it.each([
    [{ 'tls-creds': 'x' }, "No TLS credentials with id 'x'"],
    [{ 'tls-creds': 'secret0' }, "Object with id 'secret0' is not TLS credentials"],
    [{ 'tls-authz': 'x' }, "'tls_authz' option requires 'tls_creds' option"],
    [{ reconnect: 1 }, "'reconnect' option is incompatible with socket in server listen mode"],
    [{ server: false, websocket: true }, 'Websocket client is not implemented'],
    [
      { server: false, wait: true },
      "'wait' option is incompatible with socket in client connect mode",
    ],
  ] as const)('refuses %j', async (options, text) => {
    expect(await failureOf('c', unix('s', options))).toBe(`Failed to add chardev 'c': ${text}`);
  });

  it('knows no descriptors by name', async () => {
    const addr = { type: 'fd', data: { str: '0' } } as const;
    expect(await failureOf('c', { type: 'socket', data: { addr } })).toBe(
      "Failed to add chardev 'c': only QEMU supports file descriptor passing",
    );
    const reconnect = { type: 'socket', data: { addr, reconnect: 1 } } as const;
    expect(await failureOf('c', reconnect)).toContain("incompatible with 'fd' address type");
  });
});
