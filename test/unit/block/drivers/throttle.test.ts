import { describe, expect, it } from 'vitest';
import type { BlockBackend } from '../../../../src/block/block-backend.ts';
import { PERM_ALL, PERM_CONSISTENT_READ, PERM_WRITE } from '../../../../src/block/block-driver.ts';
import type { BlockGraph } from '../../../../src/block/block-graph.ts';
import { ObjectRegistry } from '../../../../src/object/object-registry.ts';
import { allocate } from '../../../../src/sys/memory.ts';
import { MadeUpClock } from '../../made-up-clock.ts';
import { testGraph } from '../graph-fixture.ts';

const buffer = allocate(4096);

interface Made {
  readonly graph: BlockGraph;
  readonly clock: MadeUpClock;
  readonly backends: readonly BlockBackend[];
}

/** Two throttled disks in one group that allows one operation a second, and nothing more at the start. */
async function disks(): Promise<Made> {
  const clock = new MadeUpClock();
  const objects = new ObjectRegistry({ clock });
  void objects.add({ 'qom-type': 'throttle-group', id: 'g', limits: { 'iops-total': 1 } });
  void objects.add({ 'qom-type': 'throttle-group', id: 'free' });
  const graph = testGraph(undefined, { objects });
  const backends = [];
  for (const name of ['a', 'b']) {
    const node = await graph.add({
      driver: 'throttle',
      'node-name': name,
      'throttle-group': 'g',
      discard: 'unmap',
      file: { driver: 'null-co' },
    });
    const perm = PERM_CONSISTENT_READ | PERM_WRITE;
    backends.push(graph.backend(node, { perm, shared: PERM_ALL }));
  }
  await backends[0]?.read(0, 512, buffer, 0);
  return { graph, clock, backends };
}

/** Whether a request is done by now. */
async function isDone(request: unknown): Promise<boolean> {
  const pending = Symbol('pending');
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
  return (await Promise.race([request, Promise.resolve(pending)])) !== pending;
}

describe('throttle', () => {
  it('holds reads, writes, zeroes and discards back, but not flushes', async () => {
    const { clock, backends } = await disks();
    const [, disk] = backends as [BlockBackend, BlockBackend];
    const requests = [
      disk.read(0, 512, buffer, 0),
      disk.write(0, 512, buffer, 0),
      disk.writeZeroes(0, 512),
    ];
    expect(await isDone(disk.flush())).toBe(true);
    for (const request of requests) expect(await isDone(request)).toBe(false);
    clock.pass(10_000);
    for (const request of requests) expect(await isDone(request)).toBe(true);
  });

  it('lets everything through while it is drained, and only then', async () => {
    const { graph, backends } = await disks();
    const [, disk] = backends as [BlockBackend, BlockBackend];
    const requests = [1, 2, 3].map(() => disk.write(0, 512, buffer, 0));
    expect(await isDone(requests[0])).toBe(false);
    await graph.drain();
    for (const request of requests) expect(await isDone(request)).toBe(true);
    const more = disk.write(0, 512, buffer, 0);
    expect(await isDone(more)).toBe(false);
    await graph.drain();
    expect(await isDone(more)).toBe(true);
  });

  it('goes over to another group when it is reopened', async () => {
    const { graph, backends } = await disks();
    const [, disk] = backends as [BlockBackend, BlockBackend];
    const held = disk.write(0, 512, buffer, 0);
    await graph.reopen([
      {
        driver: 'throttle',
        'node-name': 'b',
        'throttle-group': 'free',
        discard: 'unmap',
        file: disk.node.file?.node.nodeName ?? '',
      },
    ]);
    expect(await isDone(held)).toBe(true);
    expect(disk.write(0, 512, buffer, 0)).toBeUndefined();
  });

  it('says which group is not there', async () => {
    const { graph } = await disks();
    await expect(
      graph.add({
        driver: 'throttle',
        'node-name': 'x',
        'throttle-group': 'nope',
        file: { driver: 'null-co' },
      }),
    ).rejects.toThrow("Throttle group 'nope' does not exist");
  });
});
