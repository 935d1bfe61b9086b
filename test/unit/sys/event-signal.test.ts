import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { setStatusFlags, statusFlags } from '../../../src/sys/descriptor.ts';
import { EventSignaller, type SystemCalls } from '../../../src/sys/event-signal.ts';
import { createEventFd } from '../../../src/sys/eventfd.ts';
import { O_NONBLOCK, O_RDWR, openFile } from '../../../src/sys/file.ts';
import { addressOf, libc } from '../../../src/sys/libc.ts';
import { close, socketPair } from '../../../src/sys/socket.ts';

const number = Buffer.alloc(128);

/** As another process that holds it would. */
function fill(fd: number): void {
  number.writeBigUInt64LE(0xffff_ffff_ffff_fffen, 0);
  expect(libc.write(fd, addressOf(number), 8)).toBe(8);
}

function makeWaiting(fd: number): void {
  setStatusFlags(fd, statusFlags(fd) & ~O_NONBLOCK);
}

function valueOf(fd: number): bigint {
  expect(libc.read(fd, addressOf(number), 8)).toBe(8);
  return number.readBigUInt64LE(0);
}

const opened: number[] = [];

afterEach(() => {
  for (const fd of opened.splice(0)) close(fd);
});

function counter(): number {
  const fd = createEventFd();
  opened.push(fd);
  return fd;
}

const { neverWaits } = new EventSignaller();

describe.each([
  { by: 'the kernel', options: {} },
  // No system call has that number.
  { by: 'ourselves', options: { calls: notThere(100_000) } },
])('EventSignaller, by $by', ({ options }) => {
  let signaller: EventSignaller;

  beforeEach(() => {
    signaller = new EventSignaller(options);
  });

  afterEach(() => signaller.close());

  it('adds one, as often as it is asked to', () => {
    const [first, second] = [counter(), counter()];
    for (let times = 0; times < 1000; times++) signaller.signal(first);
    signaller.signal(second);
    expect(valueOf(first)).toBe(1000n);
    expect(valueOf(second)).toBe(1n);
  });

  it('does not wait for room in a counter that somebody has filled and made one that waits', () => {
    const fd = counter();
    fill(fd);
    makeWaiting(fd);
    for (let times = 0; times < 3; times++) signaller.signal(fd);
    expect(valueOf(fd)).toBeGreaterThanOrEqual(0xffff_ffff_ffff_fffen);
    signaller.signal(fd);
    expect(valueOf(fd)).toBe(1n);
  });

  it('signals a socket in the place of a counter, and does not wait for it either', () => {
    const [ours, theirs] = socketPair();
    opened.push(ours, theirs);
    makeWaiting(ours);
    for (let times = 0; times < 10_000; times++) signaller.signal(ours);
    expect(valueOf(theirs)).toBe(1n);
  });

  it('fails for what is not there', () => {
    // What it needs itself would take the number.
    signaller.signal(counter());
    const fd = createEventFd();
    close(fd);
    expect(() => signaller.signal(fd)).toThrow('EBADF');
  });

  it('can be closed twice, and before anything was signalled', async () => {
    await signaller.close();
    await signaller.close();
  });
});

describe.skipIf(!neverWaits)('EventSignaller, where the kernel does it', () => {
  it('refuses what is no counter and could wait', async () => {
    const signaller = new EventSignaller();
    const terminal = openFile('/dev/ptmx', O_RDWR);
    opened.push(terminal);
    expect(() => signaller.signal(terminal)).toThrow('EINVAL');
    await signaller.close();
  });
});

function notThere(number: number): SystemCalls {
  return { io_setup: number, io_destroy: number, io_getevents: number, io_submit: number };
}
