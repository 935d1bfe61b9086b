import { afterEach, describe, expect, it } from 'vitest';
import { setStatusFlags, statusFlags } from '../../../src/sys/descriptor.ts';
import { EventSignaller } from '../../../src/sys/event-signal.ts';
import { createEventFd, EventCounter } from '../../../src/sys/eventfd.ts';
import { O_NONBLOCK, O_RDWR, openFile } from '../../../src/sys/file.ts';
import { close, socketPair } from '../../../src/sys/socket.ts';

const opened: number[] = [];

afterEach(() => {
  for (const fd of opened.splice(0)) close(fd);
});

describe('EventCounter', () => {
  const taker = new EventCounter();

  it('takes what is there, and does not wait for more, even where the descriptor would', async () => {
    const signaller = new EventSignaller();
    const fd = createEventFd();
    opened.push(fd);
    setStatusFlags(fd, statusFlags(fd) & ~O_NONBLOCK);
    expect(taker.take(fd)).toBe(false);
    signaller.signal(fd);
    expect(taker.take(fd)).toBe(true);
    expect(taker.take(fd)).toBe(false);
    await signaller.close();
  });

  it('refuses what is no counter: a socket that ended, a terminal', () => {
    const [end, other] = socketPair();
    close(other);
    const terminal = openFile('/dev/ptmx', O_RDWR);
    opened.push(end, terminal);
    expect(() => taker.take(end)).toThrow('EPIPE');
    expect(() => taker.take(terminal)).toThrow('EINVAL');
  });
});
