import { existsSync, mkdtempSync, openSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { errno } from '../../../src/base/errno.ts';
import { libc } from '../../../src/sys/libc.ts';
import { allocate } from '../../../src/sys/memory.ts';
import { ResolveError, resolve } from '../../../src/sys/resolve.ts';
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  abstractSockaddr,
  decodeSockaddr,
  sockaddrPort,
  unixSockaddr,
  vsockSockaddr,
  withPort,
} from '../../../src/sys/sockaddr.ts';
import * as sockets from '../../../src/sys/socket.ts';
import { WOULD_BLOCK } from '../../../src/sys/socket.ts';

const cleanups: (() => void)[] = [];
const memory = allocate(65536);
const INET_LOOPBACK = Buffer.from(`020000007f000001${'00'.repeat(8)}`, 'hex');
const F_GETFD = 1;
const F_GETFL = 3;
const O_NONBLOCK = 0o4000;

afterEach(() => {
  for (const cleanup of cleanups.splice(0).toReversed()) cleanup();
});

function closing(fd: number): number {
  cleanups.push(() => sockets.close(fd));
  return fd;
}

function listener(sockaddr: Uint8Array, family: number): number {
  const fd = closing(sockets.socket(family));
  sockets.bind(fd, sockaddr);
  sockets.listen(fd, 5);
  return fd;
}

function scratchPath(): string {
  const directory = mkdtempSync(join(tmpdir(), 'socket-'));
  cleanups.push(() => rmSync(directory, { recursive: true }));
  return join(directory, 'socket');
}

async function loopback(family: number): Promise<Uint8Array> {
  const host = family === AF_INET ? '127.0.0.1' : '::1';
  const [first] = await resolve(host, '0', { family });
  if (first === undefined) throw new Error(`${host} has no address`);
  return first.sockaddr;
}

describe('sockets', () => {
  it('connect over a path and exchange bytes', () => {
    const path = scratchPath();
    const server = listener(unixSockaddr(path), AF_UNIX);
    expect(sockets.accept(server)).toBe(WOULD_BLOCK);
    const client = closing(sockets.socket(AF_UNIX));
    expect(sockets.connect(client, unixSockaddr(path))).toBe(true);
    const accepted = closing(sockets.accept(server));
    memory.bytes.write('hello');
    expect(sockets.send(client, memory.address, 5)).toBe(5);
    expect(sockets.receive(accepted, memory.address + 100, 50)).toBe(5);
    expect(memory.bytes.toString('utf8', 100, 105)).toBe('hello');
    expect(sockets.receive(accepted, memory.address, 50)).toBe(WOULD_BLOCK);
    sockets.shutdown(client);
    expect(sockets.receive(accepted, memory.address, 50)).toBe(0);
    expect(() => sockets.send(accepted, memory.address, 5)).toThrow(
      expect.objectContaining({ errno: errno.EPIPE, context: { syscall: 'send' } }),
    );
  });

  it('are non-blocking and close-on-exec, the accepted ones too', () => {
    const server = listener(abstractSockaddr('qsd-test-flags', { tight: true }), AF_UNIX);
    const client = closing(sockets.socket(AF_UNIX));
    sockets.connect(client, abstractSockaddr('qsd-test-flags', { tight: true }));
    const accepted = closing(sockets.accept(server));
    for (const fd of [server, client, accepted, ...sockets.socketPair().map(closing)]) {
      expect(libc.fcntl(fd, F_GETFL, 0) & O_NONBLOCK).toBe(O_NONBLOCK);
      expect(libc.fcntl(fd, F_GETFD, 0)).toBe(1);
    }
  });

  it('stop taking bytes when the peer does not read', () => {
    const [one] = sockets.socketPair().map(closing) as [number];
    let sent = 0;
    for (;;) {
      const count = sockets.send(one, memory.address, 65536);
      if (count === WOULD_BLOCK) break;
      sent += count;
    }
    expect(sent).toBeGreaterThan(0);
  });

  it('report why they cannot bind, listen or connect', () => {
    const path = scratchPath();
    const fd = closing(sockets.socket(AF_UNIX));
    expect(() => sockets.connect(fd, unixSockaddr(path))).toThrow(
      expect.objectContaining({ errno: errno.ENOENT, context: { syscall: 'connect' } }),
    );
    listener(unixSockaddr(path), AF_UNIX);
    expect(() => sockets.bind(fd, unixSockaddr(path))).toThrow(
      expect.objectContaining({ errno: errno.EADDRINUSE }),
    );
    expect(() => sockets.listen(-1, 1)).toThrow(expect.objectContaining({ errno: errno.EBADF }));
    expect(() => sockets.socket(9999)).toThrow(
      expect.objectContaining({ errno: errno.EAFNOSUPPORT }),
    );
  });

  it.each([
    ['inet', AF_INET, '127.0.0.1'],
    ['inet6', AF_INET6, '::1'],
  ] as const)('know their names over %s', async (family, number, host) => {
    const server = listener(await loopback(number), number);
    const bound = sockets.localName(server);
    expect(bound).toMatchObject({ family, host });
    const port = 'port' in bound ? Number(bound.port) : 0;
    const client = closing(sockets.socket(number));
    sockets.connect(client, withPort(await loopback(number), port));
    expect(sockets.peerName(client)).toEqual(bound);
    sockets.finishConnect(client);
    const accepted = closing(sockets.accept(server));
    expect(sockets.peerName(accepted)).toEqual(sockets.localName(client));
    sockets.setSocketOption(accepted, 'TCP_NODELAY', 1);
    expect(sockets.getSocketOption(accepted, 'TCP_NODELAY')).toBe(1);
    expect(() => sockets.peerName(server)).toThrow(
      expect.objectContaining({ errno: errno.ENOTCONN }),
    );
  });

  it('report a refused connection once they are ready', async () => {
    const server = closing(sockets.socket(AF_INET));
    sockets.bind(server, await loopback(AF_INET));
    const bound = sockets.localName(server);
    const port = 'port' in bound ? Number(bound.port) : 0;
    const client = closing(sockets.socket(AF_INET));
    const refused = expect.objectContaining({
      errno: errno.ECONNREFUSED,
      context: { syscall: 'connect' },
    });
    expect(() => {
      sockets.connect(client, withPort(INET_LOOPBACK, port));
      sockets.finishConnect(client);
    }).toThrow(refused);
  });

  it('are told from other descriptors', () => {
    const file = openSync('/dev/null', 'r');
    cleanups.push(() => sockets.close(file));
    const [one] = sockets.socketPair().map(closing) as [number];
    const server = listener(abstractSockaddr('qsd-test-kind', { tight: true }), AF_UNIX);
    expect([file, one, server, 9999].map(sockets.isSocket)).toEqual([false, true, true, false]);
    expect(readlinkSync(`/proc/self/fd/${one}`)).toMatch(/^socket:/);
  });
});

describe('sockaddr', () => {
  it('carries a path with the NUL that ends it, up to 108 bytes without', () => {
    const short = unixSockaddr('/a');
    expect(Buffer.from(short).toString('hex')).toBe('01002f6100');
    expect(decodeSockaddr(short)).toEqual({ family: 'unix', path: '/a' });
    const longest = unixSockaddr('x'.repeat(108));
    expect(longest).toHaveLength(110);
    expect(decodeSockaddr(longest)).toEqual({ family: 'unix', path: 'x'.repeat(108) });
    expect(decodeSockaddr(unixSockaddr('/ä'))).toEqual({ family: 'unix', path: '/ä' });
  });

  it('tells tight abstract names from padded ones', () => {
    const tight = abstractSockaddr('name', { tight: true });
    const padded = abstractSockaddr('name', { tight: false });
    expect(tight).toHaveLength(7);
    expect(padded).toHaveLength(110);
    expect(decodeSockaddr(tight)).toEqual({ family: 'abstract', name: 'name', tight: true });
    expect(decodeSockaddr(padded)).toEqual({ family: 'abstract', name: 'name', tight: false });
  });

  it('is what the kernel says it is', () => {
    for (const tight of [true, false]) {
      const fd = listener(abstractSockaddr(`qsd-test-${tight}`, { tight }), AF_UNIX);
      expect(sockets.localName(fd)).toEqual({
        family: 'abstract',
        name: `qsd-test-${tight}`,
        tight,
      });
    }
    const [one] = sockets.socketPair().map(closing) as [number];
    expect(sockets.localName(one)).toEqual({ family: 'unix', path: '' });
  });

  it('carries vsock and port numbers', () => {
    expect(decodeSockaddr(vsockSockaddr(3, 0xfffffffe))).toEqual({
      family: 'vsock',
      cid: 3,
      port: 0xfffffffe,
    });
    const inet = Buffer.from('0200000a7f0000010000000000000000', 'hex');
    expect(sockaddrPort(inet)).toBe(10);
    expect(sockaddrPort(withPort(inet, 65535))).toBe(65535);
    expect(sockaddrPort(inet)).toBe(10);
  });

  it('names families it does not know by number', () => {
    expect(decodeSockaddr(Buffer.from([17, 0, 0, 0]))).toEqual({ family: 'other', number: 17 });
  });
});

describe('resolve', () => {
  it('takes numeric hosts and ports', async () => {
    const [one] = await resolve('127.0.0.1', '80');
    expect(one?.family).toBe(AF_INET);
    expect(decodeSockaddr(one?.sockaddr ?? new Uint8Array())).toEqual({
      family: 'inet',
      host: '127.0.0.1',
      port: '80',
    });
  });

  // A small system has no list of them.
  it.skipIf(!existsSync('/etc/services'))('takes service names (of /etc/services)', async () => {
    const [one] = await resolve('127.0.0.1', 'http');
    expect(sockaddrPort(one?.sockaddr ?? new Uint8Array())).toBe(80);
  });

  it('gives the wildcard for no host when passive, loopback otherwise', async () => {
    const hosts = async (passive: boolean) =>
      (await resolve('', '1', { passive, addressConfig: false })).map(({ sockaddr }) => {
        const name = decodeSockaddr(sockaddr);
        return 'host' in name ? name.host : name.family;
      });
    expect(await hosts(true)).toContain('0.0.0.0');
    expect(await hosts(false)).toContain('127.0.0.1');
  });

  it('rejects with the text of the C library', async () => {
    await expect(resolve('127.0.0.1', 'no-such-service')).rejects.toMatchObject({
      name: 'ResolveError',
      reason: 'Servname not supported for ai_socktype',
    });
    await expect(resolve('::1', '1', { family: AF_INET })).rejects.toBeInstanceOf(ResolveError);
  });

  it('finds no other host or port for a name with a NUL in it', async () => {
    await expect(resolve('127.0.0.1\0x', '1')).rejects.toMatchObject({
      reason: 'Name or service not known',
    });
    await expect(resolve('127.0.0.1', '1\0x')).rejects.toMatchObject({
      reason: 'Servname not supported for ai_socktype',
    });
  });
});
