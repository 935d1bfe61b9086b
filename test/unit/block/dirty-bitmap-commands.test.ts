// Granularities are the reference's.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { addDirtyBitmap } from '../../../src/block/dirty-bitmap-commands.ts';
import { recordedImage } from './drivers/qcow2/recorded.ts';
import { testGraph } from './graph-fixture.ts';

it('addDirtyBitmap: clusters of the image decide on the granularity, whatever is over it', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'bitmaps-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const filename = join(folder, 'image');
  // Clusters of 512 bytes: the granularity is as small as it gets.
  writeFileSync(filename, recordedImage());
  const graph = testGraph();
  onTestFinished(() => graph.close());
  await graph.add({ driver: 'file', 'node-name': 'file', filename });
  await graph.add({ driver: 'qcow2', 'node-name': 'image', file: 'file' });
  await graph.add({ driver: 'blkdebug', 'node-name': 'debug', image: 'image' });
  await graph.add({ driver: 'raw', 'node-name': 'raw', file: 'debug' });
  const found: (number | undefined)[] = [];
  for (const node of ['file', 'image', 'debug', 'raw']) {
    await graph.change(async (access) => addDirtyBitmap(access, { node, name: 'b' }));
    found.push(graph.find(undefined, node).dirtyBitmaps[0]?.granularity);
  }
  expect(found).toEqual([65536, 4096, 4096, 4096]);
});
