// Transactions: their order, and what is left of those that fail.

import { describe, expect, it } from 'vitest';
import { findDirtyBitmap } from '../../../src/block/dirty-bitmap.ts';
import {
  addBitmapAction,
  enableBitmapAction,
  mergeBitmapsAction,
} from '../../../src/block/dirty-bitmap-actions.ts';
import { runTransaction, type TransactionAction } from '../../../src/block/transaction.ts';
import { QmpError } from '../../../src/qapi/errors.ts';
import { testGraph } from './graph-fixture.ts';

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
