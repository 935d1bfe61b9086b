// Transactions: their order, and what is left of those that fail.

import { describe, expect, it } from 'vitest';
import { PERM_ALL, PERM_CONSISTENT_READ } from '../../../src/block/block-driver.ts';
import { findDirtyBitmap } from '../../../src/block/dirty-bitmap.ts';
import {
  addBitmapAction,
  enableBitmapAction,
  mergeBitmapsAction,
} from '../../../src/block/dirty-bitmap-actions.ts';
import { snapshotAction } from '../../../src/block/snapshot-external.ts';
import { runTransaction, type TransactionAction } from '../../../src/block/transaction.ts';
import { QmpError } from '../../../src/qapi/errors.ts';
import { testGraph } from './graph-fixture.ts';
import { memoryDisk } from './memory-driver.ts';

function noted(name: string, notes: string[], fails = false): TransactionAction {
  return {
    prepare() {
      notes.push(`prepare ${name}`);
      if (fails) throw new QmpError('no');
    },
    async commit() {
      await Promise.resolve();
      notes.push(`commit ${name}`);
    },
    abort: () => void notes.push(`abort ${name}`),
    clean: () => void notes.push(`clean ${name}`),
  };
}

describe('runTransaction', () => {
  it('prepares all, then has them take effect', async () => {
    const notes: string[] = [];
    await runTransaction([noted('a', notes), noted('b', notes)]);
    expect(notes).toEqual(['prepare a', 'prepare b', 'commit a', 'commit b', 'clean a', 'clean b']);
  });

  it('undoes the last first, the one that failed included', async () => {
    const notes: string[] = [];
    const all = [noted('a', notes), noted('b', notes, true), noted('c', notes)];
    await expect(runTransaction(all)).rejects.toThrow('no');
    expect(notes).toEqual(['prepare a', 'prepare b', 'abort b', 'abort a', 'clean a', 'clean b']);
  });
});

describe('a snapshot that comes to nothing', () => {
  it('leaves users of the node in their order, and those that came meanwhile', async () => {
    const disk = memoryDisk({ size: 4096 });
    const graph = testGraph({ ...disk.driver, kind: 'format', supportsBacking: true });
    const base = await graph.add({ driver: 'null-co', 'node-name': 'base', size: 4096 });
    await graph.add({ driver: 'null-aio', 'node-name': 'overlay' });
    const user = () => graph.backend(base, { perm: PERM_CONSISTENT_READ, shared: PERM_ALL });
    const users = [user(), user()];
    const before = base.parents.slice();
    const meanwhile: TransactionAction = {
      prepare() {
        users.push(user());
        throw new QmpError('no');
      },
    };
    const done = graph.change((access) =>
      runTransaction([snapshotAction(access, { node: 'base', overlay: 'overlay' }), meanwhile]),
    );
    await expect(done).rejects.toThrow('no');
    expect(base.parents).toHaveLength(3);
    expect(base.parents.slice(1)).toEqual(before);
    await expect(graph.remove('base')).rejects.toThrow('Node base is in use');
    for (const each of users) await each.release();
    await graph.close();
  });
});

describe('dirty bitmaps in a transaction', () => {
  it('are gone when a later action does not find its bitmap', async () => {
    const graph = testGraph();
    const node = await graph.add({ driver: 'null-co', 'node-name': 'n', size: 4096 });
    for (const last of [
      (): TransactionAction =>
        enableBitmapAction(graph, { node: 'n', name: 'nope' }, { enabled: true }),
      (): TransactionAction =>
        mergeBitmapsAction(graph, { node: 'n', target: 'nope', bitmaps: [] }),
    ]) {
      await expect(
        runTransaction([addBitmapAction(graph, { node: 'n', name: 'b' }), last()]),
      ).rejects.toThrow("Dirty bitmap 'nope' not found");
      expect(node.dirtyBitmaps).toEqual([]);
    }
    await graph.close();
  });

  it('have what they had when it comes to nothing', async () => {
    const graph = testGraph();
    const node = await graph.add({ driver: 'null-co', 'node-name': 'n', size: 2 ** 30 });
    for (const name of ['a', 'b'])
      await runTransaction([addBitmapAction(graph, { node: 'n', name })]);
    const [a, b] = ['a', 'b'].map((name) => findDirtyBitmap(node, name));
    a?.mark(0, 2 ** 29);
    b?.mark(2 ** 20 * 3, 1);
    const fails = noted('last', [], true);
    const merge = mergeBitmapsAction(graph, { node: 'n', target: 'b', bitmaps: ['a'] });
    await expect(runTransaction([merge, fails])).rejects.toThrow('no');
    expect(b?.dirtyBytes).toBe(65536);
    expect(b?.nextDirtyArea(0, 2 ** 30)).toEqual({ offset: 2 ** 20 * 3, length: 65536 });
    expect(a?.dirtyBytes).toBe(2 ** 29);
    await graph.close();
  });
});
