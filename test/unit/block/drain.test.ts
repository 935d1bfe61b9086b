import { describe, expect, it } from 'vitest';
import { PERM_ALL, PERM_CONSISTENT_READ, PERM_RESIZE } from '../../../src/block/block-driver.ts';
import { drainBegin } from '../../../src/block/drain.ts';
import { allocate } from '../../../src/sys/memory.ts';
import { testGraph } from './graph-fixture.ts';
import { later, memoryDisk } from './memory-driver.ts';

const buffer = allocate(4096);

async function stack() {
  const disk = memoryDisk({ size: 4096, capacity: 4096 });
  const graph = testGraph(disk.driver);
  const base = await graph.add({ driver: 'null-aio', 'node-name': 'base' });
  const top = await graph.add({ driver: 'raw', 'node-name': 'top', file: 'base' });
  const backend = graph.backend(top, { perm: PERM_CONSISTENT_READ, shared: PERM_ALL });
  return { disk, graph, base, top, backend };
}

describe('a drained section', () => {
  it('waits for requests in flight above, and holds new ones back until it ends', async () => {
    const { disk, base, backend } = await stack();
    let finish = (): void => {};
    disk.behave = () =>
      new Promise<void>((resolve) => {
        finish = resolve;
      });
    const before = backend.read(0, 512, buffer, 0);
    const order: string[] = [];
    const draining = drainBegin(base).then((end) => {
      order.push('drained');
      return end;
    });
    const during = Promise.resolve(backend.read(0, 512, buffer, 0)).then(() => order.push('read'));
    await later(5);
    expect(order).toEqual([]);
    finish();
    await before;
    const end = await draining;
    expect(disk.calls.length).toBe(1);
    disk.behave = () => undefined;
    end();
    await during;
    expect(order).toEqual(['drained', 'read']);
    expect(backend.read(0, 512, buffer, 0)).toBeUndefined();
  });

  it('holds changes of the length back: the driver may be in the middle of something', async () => {
    const { disk, base, graph } = await stack();
    const resizer = graph.backend(base, { perm: PERM_RESIZE, shared: PERM_ALL });
    const end = await drainBegin(base);
    const resized = resizer.truncate(512, { exact: true, prealloc: 'off', flags: 0 });
    await later(5);
    expect(disk.calls).toEqual([]);
    end();
    await resized;
    expect(base.length).toBe(512);
  });

  it('holds questions back, too: the graph may be changing', async () => {
    const { base, backend } = await stack();
    const end = await drainBegin(base);
    const order: string[] = [];
    const answers = [backend.blockStatus(0, 512), backend.allocationDepth(0, 512)].map((answer) =>
      Promise.resolve(answer).then(() => order.push('answer')),
    );
    await later(5);
    order.push('end');
    end();
    await Promise.all(answers);
    expect(order).toEqual(['end', 'answer', 'answer']);
  });

  it('tells the owner once, however deep it is nested', async () => {
    const { base, top, backend } = await stack();
    const told: boolean[] = [];
    backend.onDrain = (drained) => told.push(drained);
    const ends = [await drainBegin(base), await drainBegin(top), await drainBegin(base)];
    for (const end of ends) end();
    expect(told).toEqual([true, false]);
  });

  it('precedes the release of a backend', async () => {
    const { disk, top, backend } = await stack();
    disk.behave = () => later(20);
    let done = false;
    const read = Promise.resolve(backend.read(0, 512, buffer, 0)).then(() => {
      done = true;
    });
    await backend.release();
    expect(done).toBe(true);
    expect(top.parents).toEqual([]);
    await read;
  });
});
