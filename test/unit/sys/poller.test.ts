import { openSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { errno } from '../../../src/base/errno.ts';
import { allocate } from '../../../src/sys/memory.ts';
import { Poller, READABLE, WRITABLE } from '../../../src/sys/poller.ts';
import { close, receive, send, socketPair } from '../../../src/sys/socket.ts';

const cleanups: (() => void)[] = [];
const byte = allocate(4096);

afterEach(() => {
  for (const cleanup of cleanups.splice(0).toReversed()) cleanup();
});

function pair(): readonly [number, number] {
  const fds = socketPair();
  cleanups.push(() => {
    for (const fd of fds) close(fd);
  });
  return fds;
}

function poller(onError?: (error: unknown) => void): Poller {
  const made = new Poller(onError === undefined ? {} : { onError });
  cleanups.push(() => made.close());
  return made;
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const turns = async (): Promise<void> => {
  for (let n = 0; n < 5; n++) await turn();
};

describe('Poller', () => {
  it('reports what is wanted, for as long as it lasts', async () => {
    const [ours, theirs] = pair();
    const seen: number[] = [];
    const watch = poller().watch(ours, (events) => {
      seen.push(events);
      if (seen.length === 3) receive(ours, byte.address, 1);
    });
    await turns();
    watch.want(READABLE);
    await turns();
    expect(seen).toEqual([]);
    send(theirs, byte.address, 1);
    await turns();
    expect(seen).toEqual([READABLE, READABLE, READABLE]);
  });

  it('reports room for writing, and nothing once it is not wanted', async () => {
    const [ours] = pair();
    let count = 0;
    const watch = poller().watch(ours, (events) => {
      expect(events).toBe(WRITABLE);
      count++;
      watch.want(0);
    });
    watch.want(WRITABLE);
    await turns();
    expect(count).toBe(1);
  });

  it('reports a peer that is gone as readable', async () => {
    const [ours, theirs] = socketPair();
    cleanups.push(() => close(ours));
    const seen = new Promise<number>((resolve) => {
      const watch = poller().watch(ours, (events) => {
        watch.close();
        resolve(events & READABLE);
      });
      watch.want(READABLE);
    });
    close(theirs);
    expect(await seen).toBe(READABLE);
    expect(receive(ours, byte.address, 1)).toBe(0);
  });

  it('runs promises of its callbacks in the same turn of the event loop', async () => {
    const order: string[] = [];
    const made = poller();
    await turn();
    for (const name of ['a', 'b']) {
      const [ours] = pair();
      const watch = made.watch(ours, () => {
        watch.want(0);
        order.push(name);
        void Promise.resolve().then(() => order.push('later'));
      });
      watch.want(WRITABLE);
    }
    setImmediate(() => order.push('turn is over'));
    await turns();
    expect(order.toSorted()).toEqual(['a', 'b', 'later', 'later', 'turn is over']);
    expect(order.at(-1)).toBe('turn is over');
  });

  it('can close a watch, itself or another, inside a callback', async () => {
    const made = poller();
    const [one] = pair();
    const [other] = pair();
    const seen: string[] = [];
    const watches = [
      made.watch(one, () => {
        seen.push('one');
        for (const watch of watches) watch.close();
      }),
      made.watch(other, () => {
        seen.push('other');
        for (const watch of watches) watch.close();
      }),
    ];
    for (const watch of watches) watch.want(WRITABLE);
    await turns();
    expect(seen).toHaveLength(1);
    for (const watch of watches) {
      watch.close();
      watch.want(READABLE);
    }
  });

  it('can watch a descriptor again after a close', async () => {
    const made = poller();
    const [ours] = pair();
    for (let n = 0; n < 3; n++) {
      await new Promise<void>((resolve) => {
        const watch = made.watch(ours, () => {
          watch.close();
          resolve();
        });
        watch.want(WRITABLE);
      });
    }
  });

  it('hands what a callback throws to onError, and goes on', async () => {
    const errors: unknown[] = [];
    const made = poller((error) => errors.push(error));
    const [ours] = pair();
    let count = 0;
    const watch = made.watch(ours, () => {
      if (++count === 2) watch.close();
      throw new Error(`number ${count}`);
    });
    watch.want(WRITABLE);
    await turns();
    expect(errors.map(String)).toEqual(['Error: number 1', 'Error: number 2']);
  });

  it('refuses regular files and bad descriptors', () => {
    const regular = openSync('/proc/self/exe', 'r');
    cleanups.push(() => close(regular));
    expect(() => poller().watch(regular, () => {})).toThrow(
      expect.objectContaining({ errno: errno.EPERM }),
    );
    expect(() => poller().watch(-1, () => {})).toThrow(
      expect.objectContaining({ errno: errno.EBADF }),
    );
  });

  it('watches a thousand descriptors', async () => {
    const made = poller();
    const all = Array.from({ length: 1000 }, pair);
    const seen = new Set<number>();
    for (const [ours] of all) {
      const watch = made.watch(ours, () => {
        receive(ours, byte.address, 1);
        seen.add(ours);
      });
      watch.want(READABLE);
    }
    for (const [, theirs] of all) send(theirs, byte.address, 1);
    await turns();
    expect(seen.size).toBe(1000);
  });

  it('closes all its watches, and takes no more', () => {
    const made = poller();
    const [ours] = pair();
    made.watch(ours, () => {}).want(READABLE);
    made.close();
    made.close();
    expect(() => made.watch(ours, () => {})).toThrow('Poller is closed');
  });
});
