import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Logger } from '../../../src/base/log.ts';
import type { Chardev, ChardevFrontend } from '../../../src/net/chardev/chardev.ts';
import { ChardevRegistry } from '../../../src/net/chardev/chardev-registry.ts';
import type { ChardevOptions } from '../../../src/net/chardev/command-line.ts';
import { QmpError } from '../../../src/qapi/errors.ts';
import type { ChardevBackend, ChardevSocket } from '../../../src/qapi/generated/types.ts';
import { Poller } from '../../../src/sys/poller.ts';

let directory: string;
let poller: Poller;
let registry: ChardevRegistry;
let logged: string[];
let printed: string[];
let sockets: (Socket | Server)[];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'chardev-'));
  poller = new Poller();
  logged = [];
  printed = [];
  sockets = [];
  const log: Logger = { error: (text) => logged.push(text), warn() {}, debug() {} };
  registry = new ChardevRegistry({
    poller,
    log,
    print: (text) => printed.push(text),
    objects: {
      tlsCredentials: (id) => {
        const what =
          id === 'secret0'
            ? `Object with id '${id}' is not TLS credentials`
            : `No TLS credentials with id '${id}'`;
        throw new QmpError(what);
      },
      isAuthorized: () => false,
    },
  });
});

afterEach(async () => {
  for (const socket of sockets) {
    if ('destroy' in socket) socket.destroy();
    else socket.close();
  }
  await registry.close();
  poller.close();
  rmSync(directory, { recursive: true, force: true });
});

/** A user of a chardev that collects what it hears, and can be awaited. */
class Listener implements ChardevFrontend {
  readonly heard: string[] = [];
  #waiting: (() => void)[] = [];

  onOpen(): void {
    this.#hear('open');
  }

  onClose(): void {
    this.#hear('close');
  }

  onInput(bytes: Uint8Array): void {
    this.#hear(Buffer.from(bytes).toString('latin1'));
  }

  onDrain(): void {
    this.#hear('drain');
  }

  /** Resolves when everything heard since the last call, joined, is `text`. */
  async until(text: string): Promise<void> {
    while (this.heard.join('|') !== text) {
      await new Promise<void>((fulfil) => {
        this.#waiting.push(fulfil);
      });
    }
    this.heard.length = 0;
  }

  #hear(what: string): void {
    this.heard.push(what);
    for (const fulfil of this.#waiting.splice(0)) fulfil();
  }
}

function unix(name: string, more: Partial<ChardevSocket> = {}): ChardevBackend {
  const addr = { type: 'unix', data: { path: join(directory, name) } } as const;
  return { type: 'socket', data: { addr, ...more } };
}

function inet(port: string, more: Partial<ChardevSocket> = {}): ChardevBackend {
  const addr = { type: 'inet', data: { host: '127.0.0.1', port } } as const;
  return { type: 'socket', data: { addr, ...more } };
}

function attached(id: string): { chardev: Chardev; listener: Listener } {
  const chardev = registry.find(id);
  if (chardev === undefined) throw new Error(`no chardev ${id}`);
  const listener = new Listener();
  chardev.attach(listener);
  return { chardev, listener };
}

/** A client of a unix socket; `text()` resolves with what it received once that ends with `end`. */
async function client(
  name: string,
): Promise<{ socket: Socket; until(end: string): Promise<string> }> {
  const socket = createConnection(join(directory, name));
  sockets.push(socket);
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1');
  });
  await new Promise((fulfil, reject) => {
    socket.once('connect', fulfil);
    socket.once('error', reject);
  });
  socket.on('error', () => {});
  return {
    socket,
    async until(end) {
      while (!text.endsWith(end)) await new Promise((fulfil) => socket.once('data', fulfil));
      return text;
    },
  };
}

function failureOf(id: string, backend: ChardevBackend): Promise<string> {
  return registry.add(id, backend).then(
    () => 'no error',
    (error: Error) => error.message,
  );
}

function filenames(): string[] {
  return registry.query().map(({ label, filename }) => `${label} ${filename}`);
}

describe('ChardevRegistry', () => {
  it('tells what cannot be added, changed, removed or broken', async () => {
    await registry.add('n', { type: 'null', data: {} });
    expect(await failureOf('n', { type: 'null', data: {} })).toBe(
      "Chardev with id 'n' already exists",
    );
    attached('n');
    expect(() => registry.remove('n')).toThrow("Chardev 'n' is busy");
    expect(() => registry.remove('x')).toThrow("Chardev 'x' not found");
    expect(() => registry.sendBreak('x')).toThrow("Chardev 'x' not found");
    registry.sendBreak('n');
    const backend: ChardevBackend = { type: 'null', data: {} };
    await expect(registry.change('x', backend)).rejects.toThrow("Chardev 'x' does not exist");
    await expect(registry.change('n', backend)).rejects.toThrow(
      'Chardev user does not support chardev hotswap',
    );
    expect(() => registry.find('n')?.attach(new Listener())).toThrow("Device 'n' is in use");
  });

  it('replaces a chardev that has no user, and loses it when the new one cannot be opened', async () => {
    await registry.add('c', { type: 'null', data: {} });
    await registry.change('c', { type: 'ringbuf', data: {} });
    expect(filenames()).toEqual(['c ringbuf']);
    await expect(registry.change('c', { type: 'ringbuf', data: { size: 3 } })).rejects.toThrow(
      "Failed to add chardev 'c': size of ringbuf chardev must be power of two",
    );
    expect(filenames()).toEqual([]);
  });

  it('lists chardevs in the order in which the reference does', async () => {
    for (const id of ['qq', 'n', '1 bad', '', 'a/b']) {
      await registry.add(id, { type: 'null', data: {} });
    }
    expect(registry.query().map(({ label }) => label)).toEqual(['', 'qq', '1 bad', 'a/b', 'n']);
  });

  it('says which have a user', async () => {
    await registry.add('n', { type: 'null', data: {} });
    expect(registry.query()).toEqual([{ label: 'n', filename: 'null', 'frontend-open': false }]);
    attached('n');
    expect(registry.query()).toMatchObject([{ 'frontend-open': true }]);
  });

  it('removes the files of its sockets when it closes', async () => {
    await registry.add('c', unix('s'));
    expect(existsSync(join(directory, 's'))).toBe(true);
    await registry.close();
    expect(existsSync(join(directory, 's'))).toBe(false);
  });

  it('gives up on a server that waits when it closes', async () => {
    const waiting = failureOf('c', unix('s', { wait: true }));
    while (!existsSync(join(directory, 's'))) await new Promise((f) => setImmediate(f));
    await registry.close();
    expect(await waiting).toBe("Failed to add chardev 'c': The daemon is ending");
    expect(existsSync(join(directory, 's'))).toBe(false);
  });

  it('keeps two registries apart', async () => {
    const other = new ChardevRegistry({ poller, log: { error() {}, warn() {}, debug() {} } });
    await other.add('n', { type: 'null', data: {} });
    await registry.add('n', { type: 'null', data: {} });
    await other.close();
    expect(filenames()).toEqual(['n null']);
  });
});

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
    peer.socket.write(
      'GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n',
    );
    expect(await peer.until('\r\n\r\n')).toContain('Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=');
    await listener.until('open');
    chardev.write(Buffer.from('hi'));
    await peer.until('\x82\x02hi');
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

describe('ring buffer chardev', () => {
  it('keeps the newest bytes', async () => {
    await registry.add('r', { type: 'memory', data: { size: 8 } });
    const ring = registry.ringbuf('r');
    ring.write(Buffer.from('abcdef'));
    expect(ring.read(2).toString()).toBe('ab');
    ring.write(Buffer.from('ghijkl'));
    expect(ring.read(100).toString()).toBe('efghijkl');
    ring.write(Buffer.from('0123456789'));
    expect(ring.read(3).toString()).toBe('234');
    expect(ring.read(100).toString()).toBe('56789');
    expect(ring.read(1).length).toBe(0);
  });

  it('takes what its user writes', async () => {
    await registry.add('r', { type: 'ringbuf', data: {} });
    const { chardev, listener } = attached('r');
    await listener.until('open');
    chardev.write(Buffer.from('hello'));
    expect(registry.ringbuf('r').read(10).toString()).toBe('hello');
  });

  it('may have no room at all', async () => {
    await registry.add('r', { type: 'ringbuf', data: { size: 0 } });
    registry.ringbuf('r').write(Buffer.from('x'));
    expect(registry.ringbuf('r').read(5).length).toBe(0);
  });

  it('refuses sizes that are no power of two, or that no memory could hold', async () => {
    for (const size of [3, -4]) {
      expect(await failureOf('r', { type: 'ringbuf', data: { size } })).toBe(
        "Failed to add chardev 'r': size of ringbuf chardev must be power of two",
      );
    }
    expect(await failureOf('r', { type: 'ringbuf', data: { size: -(2 ** 63) } })).toBe(
      "Failed to add chardev 'r': Could not allocate a ring buffer of 9223372036854775808 bytes: Cannot allocate memory",
    );
  });

  it('is told from other chardevs', async () => {
    await registry.add('n', { type: 'null', data: {} });
    expect(() => registry.ringbuf('n')).toThrow('n is not a ringbuf device');
    expect(() => registry.ringbuf('x')).toThrow("Device 'x' not found");
  });
});

describe('file chardev', () => {
  it('writes to one file and reads another to its end', async () => {
    const [out, input] = [join(directory, 'out'), join(directory, 'in')];
    writeFileSync(out, 'old');
    writeFileSync(input, 'input');
    await registry.add('f', { type: 'file', data: { out, in: input, append: true } });
    const { chardev, listener } = attached('f');
    await listener.until('open|input|close');
    chardev.write(Buffer.from('new'));
    expect(readFileSync(out, 'utf8')).toBe('oldnew');
  });

  it.each([
    [{ out: '/nonexistent/x' }, "Could not open '/nonexistent/x': No such file or directory"],
    [{ out: '/' }, "Could not open '/': Is a directory"],
    [
      { out: '/dev/null', in: '/nonexistent/x' },
      "Could not open '/nonexistent/x': No such file or directory",
    ],
  ] as const)('refuses %j', async (data, text) => {
    expect(await failureOf('f', { type: 'file', data })).toBe(`Failed to add chardev 'f': ${text}`);
  });

  it('copies what any chardev writes to its log file', async () => {
    const logfile = join(directory, 'log');
    await registry.add('n', { type: 'null', data: { logfile } });
    attached('n').chardev.write(Buffer.from('abc'));
    expect(readFileSync(logfile, 'utf8')).toBe('abc');
    expect(await failureOf('m', { type: 'null', data: { logfile: '/nonexistent/l' } })).toBe(
      "Failed to add chardev 'm': Could not create '/nonexistent/l': No such file or directory",
    );
  });
});

describe('pipe chardev', () => {
  it('uses one file for both directions when there is no pair', async () => {
    const device = join(directory, 'p');
    writeFileSync(device, '');
    await registry.add('p', { type: 'pipe', data: { device } });
    attached('p').chardev.write(Buffer.from('abc'));
    expect(readFileSync(device, 'utf8')).toBe('abc');
    expect(await failureOf('q', { type: 'pipe', data: { device: `${device}x` } })).toBe(
      `Failed to add chardev 'q': Could not open '${device}x': No such file or directory`,
    );
  });
});

describe('pty chardev', () => {
  it('opens when its other side is opened, and passes bytes both ways', async () => {
    const { pty } = await registry.add('p', { type: 'pty', data: {} });
    expect(pty).toMatch(/^\/dev\/pts\/\d+$/);
    expect(filenames()).toEqual([`p pty:${pty}`]);
    const side = join(directory, 'side');
    // A second chardev serves as the terminal's user: it opens the path for reading and writing.
    await registry.add('q', { type: 'pipe', data: { device: pty ?? side } });
    const near = attached('p');
    const far = attached('q');
    await near.listener.until('open');
    far.chardev.write(Buffer.from('hello\x03'));
    await near.listener.until('hello\x03');
    near.chardev.write(Buffer.from('world\n'));
    await far.listener.until('open|world\n');
  });

  it('is announced to the person who asked for it on the command line', async () => {
    await addOptions('pty,p', {});
    expect(printed.join('')).toMatch(/^char device redirected to \/dev\/pts\/\d+ \(label p\)\n$/);
  });
});

/** `--chardev KIND,id=ID` with options. */
function addOptions(kindAndId: string, options: Record<string, string>): Promise<void> {
  const [backend, id] = kindAndId.split(',');
  const values: Record<string, string> = { ...(backend && { backend }), ...options };
  const parsed: ChardevOptions = { id: id || undefined, get: (name) => values[name] };
  return registry.addFromCommandLine(parsed);
}

describe('addFromCommandLine', () => {
  it.each([
    ['null', {}, 'chardev: no id specified'],
    [',c', {}, 'chardev: "c" missing backend'],
    ['nope,c', {}, "'nope' is not a valid char driver name"],
    ['fd,c', {}, "Parameter 'driver' expects a non-abstract device type"],
    ['socket,c', {}, 'Unable to parse FD number '],
    ['socket,c', { fd: '55' }, "File descriptor '55' is not a socket"],
    [
      'socket,c',
      { path: 'x', host: 'y' },
      "None or one of 'path', 'fd' or 'host' option required.",
    ],
    ['socket,c', { host: 'y' }, 'chardev: socket: no port given'],
    [
      'socket,c',
      { path: '/nonexistent/x', server: 'on' },
      'Failed to bind socket to /nonexistent/x: No such file or directory',
    ],
    [
      'socket,c',
      { path: '/nonexistent/x' },
      "Failed to connect to '/nonexistent/x': No such file or directory",
    ],
    [
      'socket,c',
      { path: 'x', delay: 'on', nodelay: 'on' },
      "'delay' and 'nodelay' are mutually exclusive",
    ],
    ['file,c', {}, 'chardev: file: no filename given'],
    ['pipe,c', {}, 'chardev: pipe: no device path given'],
    ['ringbuf,c', { size: '3' }, 'size of ringbuf chardev must be power of two'],
    ['null,c', { mux: 'on' }, "'mux' option is not supported"],
  ] as const)('refuses %s %j', async (kindAndId, options, text) => {
    await expect(addOptions(kindAndId, options)).rejects.toThrow(text);
  });

  it('reports a second chardev of one id as the reference does', async () => {
    await addOptions('null,c', {});
    await expect(addOptions('null,c', {})).rejects.toThrow(
      "attempt to add duplicate property 'c' to object (type 'container')",
    );
  });

  it('makes sockets clients, and makes servers wait', async () => {
    const path = join(directory, 's');
    const server = addOptions('socket,c', { path, server: 'on' });
    while (!existsSync(path)) await new Promise((f) => setImmediate(f));
    await addOptions('socket,d', { path });
    await server;
    expect(filenames().sort()).toEqual([`c unix:${path},server=on`, 'd unix:']);
  });

  it('reads sizes with suffixes', async () => {
    await addOptions('ringbuf,c', { size: '1k' });
    registry.ringbuf('c').write(Buffer.alloc(2000));
    expect(registry.ringbuf('c').read(5000).length).toBe(1024);
  });
});
