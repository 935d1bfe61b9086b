import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLogger } from '../../../src/base/log.ts';
import { createTrace } from '../../../src/base/trace.ts';
import { type BlockDriver, CHILD_COW } from '../../../src/block/block-driver.ts';
import type { BlockGraph } from '../../../src/block/block-graph.ts';
import type { DirtyBitmap } from '../../../src/block/dirty-bitmap.ts';
import { addDirtyBitmap } from '../../../src/block/dirty-bitmap-commands.ts';
import { ExportManager } from '../../../src/export/export-manager.ts';
import { QmpError } from '../../../src/qapi/errors.ts';
import type { BlockDirtyBitmapOrStr } from '../../../src/qapi/generated/types.ts';
import { Poller } from '../../../src/sys/poller.ts';
import { testGraph } from '../block/graph-fixture.ts';
import { memoryDisk } from '../block/memory-driver.ts';

const addr = { type: 'unix', path: `nbd-exported-bitmaps-${process.pid}`, abstract: true } as const;

/** A format with nothing of its own over the node `base`. */
const overlay: BlockDriver = {
  name: 'host_device',
  kind: 'format',
  strongOptions: [],
  supportsBacking: true,
  open: (_node, _options, context) => context.openChild('backing', 'base', CHILD_COW),
  length: () => 65536,
  read() {},
};

let graph: BlockGraph;
let manager: ExportManager;
let poller: Poller;

beforeEach(async () => {
  poller = new Poller();
  graph = testGraph(memoryDisk({ size: 65536 }).driver, {
    drivers: { host_device: overlay },
  });
  manager = new ExportManager({
    graph,
    events: { emit() {} },
    log: silentLogger,
    trace: createTrace(),
    poller,
    objects: { find: () => undefined },
  });
  await graph.add({ driver: 'null-aio', 'node-name': 'base' });
  await graph.add({ driver: 'host_device', 'node-name': 'top', filename: 'x', 'read-only': true });
  await manager.startNbdServer({ addr });
});

afterEach(async () => {
  await manager.close();
  await graph.close();
  poller.close();
});

async function exported(...bitmaps: BlockDirtyBitmapOrStr[]): Promise<string> {
  try {
    await manager.add({ type: 'nbd', id: 'e', 'node-name': 'top', bitmaps });
    return 'success';
  } catch (error) {
    if (error instanceof QmpError) return error.desc;
    throw error;
  }
}

function make(node: string, name: string, disabled: boolean): DirtyBitmap {
  addDirtyBitmap(graph, { node, name, disabled });
  const made = graph.lookUp(node)?.dirtyBitmaps[0];
  if (made === undefined) throw new Error('no bitmap');
  return made;
}

describe('bitmaps of an export', () => {
  it('are looked for down the backing chain, the nearest first', async () => {
    const below = make('base', 'b', true);
    expect(await exported('b')).toBe('success');
    expect(below.busy).toBe(true);
    await manager.remove('e');
    expect(below.busy).toBe(false);
    const nearest = make('top', 'b', false);
    expect(await exported('b')).toBe('success');
    expect([nearest.busy, below.busy]).toEqual([true, false]);
  });

  it('may record on a read-only node, and on another only for a writable export', async () => {
    make('top', 'still', false);
    make('base', 'moving', false);
    expect(await exported('moving')).toBe(
      "Enabled bitmap 'moving' incompatible with readonly export",
    );
    expect(await exported('still')).toBe('success');
    await manager.remove('e');
    expect(await exported({ node: 'base', name: 'moving' })).toBe('success');
  });

  it('are all free when one is refused', async () => {
    const first = make('top', 'first', true);
    expect(await exported('first', 'zz')).toBe("Bitmap 'zz' is not found");
    expect(await exported('first', { node: 'zz', name: 'first' })).toBe("Node 'zz' not found");
    expect(await exported('first', { node: 'base', name: 'first' })).toBe(
      "Dirty bitmap 'first' not found",
    );
    expect(first.busy).toBe(false);
  });

  it('are contexts in the order in which they were given', async () => {
    make('top', 'one', true);
    make('base', 'two', true);
    expect(await exported('two', 'one')).toBe('success');
    const contexts = manager.nbdServer?.find('top')?.contexts;
    expect(contexts?.map(({ id, name }) => `${id} ${name}`)).toEqual([
      '0 base:allocation',
      '2 qemu:dirty-bitmap:two',
      '3 qemu:dirty-bitmap:one',
    ]);
  });

  it('keep their node from being deleted', async () => {
    await graph.add({ driver: 'null-co', 'node-name': 'other', size: 65536 });
    make('other', 'b', true);
    expect(await exported({ node: 'other', name: 'b' })).toBe('success');
    await expect(graph.remove('other')).rejects.toThrow(
      "Bitmap 'b' is currently in use by another operation and cannot be used",
    );
    await manager.remove('e');
    await graph.remove('other');
  });
});
