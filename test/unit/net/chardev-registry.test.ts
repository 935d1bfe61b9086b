import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ChardevRegistry } from '../../../src/net/chardev/chardev-registry.ts';
import type { ChardevBackend } from '../../../src/qapi/generated/types.ts';
import {
  addOptions,
  attached,
  directory,
  failureOf,
  filenames,
  Listener,
  poller,
  printed,
  registry,
  unix,
} from './chardev/registry-fixture.ts';

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

  it.each([{ out: 'fifo' }, { out: 'out', in: 'fifo' }])(
    'gives up a file that is a FIFO with nobody at its other side: %j',
    async (names) => {
      execFileSync('mkfifo', [join(directory, 'fifo')]);
      const data = {
        out: join(directory, names.out),
        ...(names.in === undefined ? {} : { in: join(directory, names.in) }),
      };
      const failed = failureOf('f', { type: 'file', data });
      while (names.in !== undefined && !existsSync(data.out)) await new Promise(setImmediate);
      registry.abandonOpening();
      expect(await failed).toBe("Failed to add chardev 'f': The daemon is ending");
    },
  );

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
