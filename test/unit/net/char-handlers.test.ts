import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { DaemonServices } from '../../../src/monitor/daemon-services.ts';
import { charHandlers } from '../../../src/monitor/handlers/char.ts';
import { ChardevRegistry } from '../../../src/net/chardev/chardev-registry.ts';
import { Poller } from '../../../src/sys/poller.ts';

let poller: Poller;
let chardevs: ChardevRegistry;
let daemon: DaemonServices;

beforeEach(async () => {
  poller = new Poller();
  chardevs = new ChardevRegistry({ poller, log: { error() {}, warn() {}, debug() {} } });
  daemon = { chardevs } as DaemonServices;
  await chardevs.add('r', { type: 'ringbuf', data: { size: 16 } });
});

afterEach(async () => {
  await chardevs.close();
  poller.close();
});

function write(data: string, format?: 'utf8' | 'base64'): void {
  charHandlers['ringbuf-write']({ device: 'r', data, ...(format && { format }) }, daemon);
}

function read(size = 500, format?: 'utf8' | 'base64'): string {
  return charHandlers['ringbuf-read']({ device: 'r', size, ...(format && { format }) }, daemon);
}

describe('ringbuf-write and ringbuf-read', () => {
  it.each([
    ['aGVsbG8=', 'aGVsbG8='],
    ['aGVsbG8', 'aGVs'],
    ['aGVs\nbG8=', 'aGVsbG8='],
    ['aG=sbG8=', 'aCxsbw=='],
    ['====', 'AA=='],
    ['', ''],
  ])('decodes %j as GLib does', (text, back) => {
    write(text, 'base64');
    expect(read(500, 'base64')).toBe(back);
  });

  it.each(['aGVs*bG8=', 'aGVs bG8=', 'aä', 'a\0'])('refuses %j as base64', (text) => {
    expect(() => write(text, 'base64')).toThrow('Base64 data contains invalid characters');
  });

  it('reads invalid sequences as U+FFFD, and up to a NUL', () => {
    write('//79gICAwyhBAEI=', 'base64');
    expect(read()).toBe('\ufffd\ufffd\ufffd\ufffd(A');
  });

  it('cuts characters where the size says', () => {
    write('ääh');
    expect(read(3)).toBe('ä\ufffd');
    expect(read(3)).toBe('\ufffdh');
  });

  it('keeps a NUL as the reference does, in two bytes', () => {
    write('a\0b');
    expect(read(500, 'base64')).toBe(Buffer.from([0x61, 0xc0, 0x80, 0x62]).toString('base64'));
    write('a\0b');
    expect(read()).toBe('a\0b');
  });

  it('refuses sizes below one, and takes those beyond 2^53', () => {
    expect(() => read(0)).toThrow('size must be greater than zero');
    expect(() => read(-1)).toThrow('size must be greater than zero');
    write('abc');
    expect(read((2n ** 63n) as unknown as number)).toBe('abc');
  });
});

describe('query-chardev-backends', () => {
  it('lists those that exist, in the order of the reference', () => {
    const names = charHandlers['query-chardev-backends']({}, daemon).map(({ name }) => name);
    const all = 'serial mux pipe parallel null ringbuf stdio socket file memory udp pty'.split(' ');
    expect(names).toEqual(all.filter((name) => names.some((known) => known === name)));
    expect(names).toHaveLength(10);
  });
});
