// Requests that a driver starts, and tells the end of: the same books as for those that answer with a promise.

import { describe, expect, it } from 'vitest';
import { errno } from '../../../src/base/errno.ts';
import {
  FUA,
  PERM_ALL,
  PERM_CONSISTENT_READ,
  PERM_WRITE,
} from '../../../src/block/block-driver.ts';
import { type Completion, promised } from '../../../src/block/completion.ts';
import { drainBegin } from '../../../src/block/drain.ts';
import { allocate } from '../../../src/sys/memory.ts';
import { testGraph } from './graph-fixture.ts';
import { ioError, type MemoryOptions, memoryDisk } from './memory-driver.ts';

const SIZE = 64 * 1024;
const buffer = allocate(SIZE);

async function open(options: Partial<MemoryOptions> = {}) {
  const disk = memoryDisk({ size: SIZE, starts: true, ...options });
  const graph = testGraph(disk.driver);
  const node = await graph.add({ driver: 'null-aio', 'node-name': 'disk' });
  const backend = graph.backend(node, {
    perm: PERM_CONSISTENT_READ | PERM_WRITE,
    shared: PERM_ALL,
  });
  const told: unknown[] = [];
  const completion: Completion = { completed: (error) => told.push(error) };
  const seen = (): string[] =>
    disk.calls.splice(0).map(({ operation, offset, length }) => `${operation} ${offset}+${length}`);
  return { disk, graph, node, backend, told, completion, seen };
}

/** Makes the driver answer later; what it answers with the function that is returned. */
function hold(disk: Awaited<ReturnType<typeof open>>['disk']): {
  answer: (error?: Error) => Promise<void>;
} {
  let settle: (error?: Error) => void = () => {};
  const held = new Promise<void>((resolve, reject) => {
    settle = (error) => (error === undefined ? resolve() : reject(error));
  });
  disk.behave = () => held;
  return {
    async answer(error) {
      settle(error);
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

describe('a request that is started', () => {
  it('tells nobody when it is done at once', async () => {
    const { backend, told, completion, disk, node } = await open();
    disk.bytes.fill(5, 512, 1024);
    expect(backend.startRead(512, 512, buffer, 0, completion)).toBe('done');
    expect(buffer.bytes.subarray(0, 512)).toEqual(Buffer.alloc(512, 5));
    expect(backend.startWrite(0, 512, buffer, 0, 0, completion)).toBe('done');
    expect(disk.bytes.subarray(0, 512)).toEqual(Buffer.alloc(512, 5));
    expect(told).toEqual([]);
    expect(node.requests.inFlight).toBe(0);
    expect(node.writeGeneration).toBe(1);
  });

  it('is in flight until it is told of', async () => {
    const { backend, told, completion, disk, node } = await open();
    const held = hold(disk);
    expect(backend.startRead(0, 512, buffer, 0, completion)).toBe('later');
    expect(backend.startWrite(512, 512, buffer, 0, 0, completion)).toBe('later');
    expect(node.requests.inFlight).toBe(2);
    expect(node.writeGeneration).toBe(0);
    expect(told).toEqual([]);
    await held.answer();
    expect(told).toEqual([undefined, undefined]);
    expect(node.requests.inFlight).toBe(0);
    expect(node.writeGeneration).toBe(1);
    expect(node.writeHighestOffset).toBe(1024);
  });

  it('fails at once, or is told to have failed, and may have written', async () => {
    const { backend, told, completion, disk, node } = await open();
    const error = ioError('ENOSPC');
    disk.behave = () => error;
    expect(() => backend.startRead(0, 512, buffer, 0, completion)).toThrow(error);
    expect(() => backend.startWrite(0, 512, buffer, 0, 0, completion)).toThrow(error);
    expect(node.writeGeneration).toBe(1);
    const held = hold(disk);
    backend.startWrite(512, 512, buffer, 0, 0, completion);
    backend.startRead(512, 512, buffer, 0, completion);
    await held.answer(error);
    expect(told).toEqual([error, error]);
    expect(node.writeGeneration).toBe(2);
    expect(node.writeHighestOffset).toBe(1024);
    expect(node.requests.inFlight).toBe(0);
  });

  it('is made to fit the node, as any other', async () => {
    const { backend, told, completion, seen } = await open({
      limits: { requestAlignment: 512, maxTransfer: 1024 },
    });
    backend.startRead(100, 100, buffer, 0, completion);
    backend.startRead(0, 2048, buffer, 0, completion);
    backend.startWrite(0, 1536, buffer, 0, 0, completion);
    await new Promise((resolve) => setImmediate(resolve));
    expect(seen()).toEqual([
      'read 0+512',
      'read 0+1024',
      'write 0+1024',
      'read 1024+1024',
      'write 1024+512',
    ]);
    expect(told).toEqual([undefined, undefined, undefined]);
  });

  it('is flushed where FUA is not known', async () => {
    const { backend, completion, seen, told } = await open();
    expect(backend.startWrite(0, 512, buffer, 0, FUA, completion)).toBe('later');
    await new Promise((resolve) => setImmediate(resolve));
    expect(seen()).toEqual(['write 0+512', 'flush 0+0']);
    expect(told).toEqual([undefined]);
    backend.writethrough = true;
    backend.startWrite(0, 512, buffer, 0, 0, completion);
    await new Promise((resolve) => setImmediate(resolve));
    expect(seen()).toEqual(['write 0+512', 'flush 0+0']);
  });

  it('waits for what serialises on its area', async () => {
    const { backend, node, completion, disk, told, seen } = await open();
    const other = node.requests.begin(0, 4096);
    await node.requests.serialise(other, 4096);
    expect(backend.startRead(512, 512, buffer, 0, completion)).toBe('later');
    expect(backend.startWrite(512, 512, buffer, 0, 0, completion)).toBe('later');
    await new Promise((resolve) => setImmediate(resolve));
    expect(seen()).toEqual([]);
    disk.behave = () => undefined;
    node.requests.end(other);
    await new Promise((resolve) => setImmediate(resolve));
    expect(seen()).toEqual(['read 512+512', 'write 512+512']);
    expect(told).toEqual([undefined, undefined]);
  });

  it('is waited for by a drained section, and waits for the end of one', async () => {
    const { backend, node, completion, disk, told, seen } = await open();
    const held = hold(disk);
    backend.startRead(0, 512, buffer, 0, completion);
    let isDrained = false;
    const drained = drainBegin(node).then((end) => {
      isDrained = true;
      return end;
    });
    expect(backend.startRead(512, 512, buffer, 0, completion)).toBe('later');
    await new Promise((resolve) => setImmediate(resolve));
    expect(isDrained).toBe(false);
    await held.answer();
    const drainEnd = await drained;
    expect(told).toEqual([undefined]);
    expect(seen()).toEqual(['read 0+512']);
    drainEnd();
    await new Promise((resolve) => setImmediate(resolve));
    expect(seen()).toEqual(['read 512+512']);
    expect(told).toEqual([undefined, undefined]);
  });

  it('is refused outside the node, and beyond the memory given', async () => {
    const { backend, completion } = await open();
    const eio = expect.objectContaining({ errno: errno.EIO });
    expect(() => backend.startRead(SIZE, 512, buffer, 0, completion)).toThrow(eio);
    expect(() => backend.startWrite(SIZE, 512, buffer, 0, 0, completion)).toThrow(eio);
    expect(() => backend.startRead(0, 512, buffer, SIZE, completion)).toThrow(RangeError);
    expect(() => backend.startWrite(0, 512, buffer, SIZE, 0, completion)).toThrow(RangeError);
  });
});

describe('promised()', () => {
  it('makes no promise of what is done', () => {
    expect(promised(() => 'done')).toBeUndefined();
    expect(promised(() => undefined)).toBeUndefined();
  });

  it('settles as the completion is told', async () => {
    const error = ioError('EIO');
    for (const result of [undefined, error]) {
      let completion: Completion | undefined;
      const promise = promised((given) => {
        completion = given;
        return 'later';
      });
      completion?.completed(result);
      if (result === undefined) await promise;
      else await expect(promise).rejects.toBe(error);
    }
  });
});
