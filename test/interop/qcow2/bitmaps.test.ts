// Persistent dirty bitmaps in both directions: what the reference stored we load, what we stored it loads, and qemu-img agrees.

import { describe, expect, it } from 'vitest';
import { PERM_ALL, PERM_RESIZE } from '../../../src/block/block-driver.ts';
import type { BlockGraph } from '../../../src/block/block-graph.ts';
import {
  addDirtyBitmap,
  clearDirtyBitmap,
  enableDirtyBitmap,
  hashDirtyBitmap,
  mergeDirtyBitmaps,
  removeDirtyBitmap,
} from '../../../src/block/dirty-bitmap-commands.ts';
import {
  askReference,
  bitmapLine,
  bitmapsByReference,
  bitmapsInImage,
} from '../../helpers/qcow2-bitmaps.ts';
import { bufferOf, type Opened, random } from '../../helpers/qcow2-disk.ts';
import {
  checkImage,
  createImage,
  noQemuImg,
  openImage,
  qemuImg,
  scratch,
} from '../../helpers/qcow2-images.ts';
import { referenceMissing } from '../../helpers/reference.ts';

const MIB = 2 ** 20;
const reason = noQemuImg ?? referenceMissing();

/** As bitmapsByReference, of a graph of ours. */
async function bitmapsOf({ graph }: { graph: BlockGraph }): Promise<string[]> {
  const bitmaps = graph.find(undefined, 'image').dirtyBitmaps;
  return Promise.all(
    bitmaps.map(async (bitmap) =>
      bitmapLine(bitmap.info(), await hashDirtyBitmap(graph, { node: 'image', name: bitmap.name })),
    ),
  );
}

function sound(path: string): void {
  expect(checkImage(path)).toMatchObject({ status: 0 });
}

function add(graph: BlockGraph, name: string, more: object = {}): void {
  addDirtyBitmap(graph, { node: 'image', name, persistent: true, ...more });
}

async function writeSome({ backend }: Opened, seed: number, times = 20): Promise<void> {
  const next = random(seed);
  const data = bufferOf(Buffer.alloc(65536, 7));
  for (let time = 0; time < times; time++) {
    const offset = Math.floor(next() * (backend.length - 65536));
    await backend.write(offset, 1 + Math.floor(next() * 65535), data, 0);
  }
}

describe.skipIf(reason !== undefined)(
  `persistent bitmaps${reason === undefined ? '' : ` (${reason})`}`,
  () => {
    it.each([
      ['cluster_size=65536', 8 * MIB, 65536],
      ['cluster_size=512', 40 * MIB, 512],
      ['cluster_size=4096,refcount_bits=1', 8 * MIB + 512 * 5, 4096],
      ['cluster_size=2M,extended_l2=on', 100 * MIB, 2 ** 31],
      ['cluster_size=1024,data_file=DIR/data,data_file_raw=on', 20 * MIB, 1024],
    ] as const)('stored by us, with %s', async (options, size, granularity) => {
      const dir = scratch();
      const path = createImage({
        path: `${dir}/image`,
        size,
        options: options.replace('DIR', dir),
      });
      const disk = await openImage(path);
      add(disk.graph, 'all', { granularity });
      add(disk.graph, 'off', { disabled: true });
      addDirtyBitmap(disk.graph, { node: 'image', name: 'forgotten' });
      await writeSome(disk, size);
      add(disk.graph, 'later');
      await writeSome(disk, granularity);
      const ours = (await bitmapsOf(disk)).filter((line) => !line.startsWith('forgotten'));
      await disk.close();
      sound(path);
      // The newest first in memory, in the order of their directory.
      expect(bitmapsByReference(path).toSorted()).toEqual(ours.toSorted());
      const again = await openImage(path, { 'read-only': true });
      expect(await bitmapsOf(again)).toEqual(bitmapsByReference(path));
    });

    it.each([512, 4096, 65536, 2 ** 20, 2 ** 31])(
      'stored by the reference, granularity %i',
      async (granularity) => {
        const path = createImage({ path: `${scratch()}/image`, size: 20 * MIB });
        qemuImg('bitmap', '--add', '-g', String(granularity), path, 'b');
        qemuImg('bitmap', '--add', '--disable', path, 'none');
        const disk = await openImage(path);
        await writeSome(disk, granularity);
        await disk.close();
        // The reference writes them anew.
        askReference(path, []);
        const stored = bitmapsByReference(path);
        expect(bitmapsInImage(path)).toEqual([`b auto ${granularity}`, 'none - 65536']);
        const loaded = await openImage(path);
        expect(await bitmapsOf(loaded)).toEqual(stored);
        await loaded.close();
        expect(bitmapsByReference(path)).toEqual(stored);
        sound(path);
      },
    );

    it('are in use in the image while it is open for writing, and not when it is only read', async () => {
      const path = createImage({ path: `${scratch()}/image` });
      qemuImg('bitmap', '--add', path, 'b');
      const reader = await openImage(path, { 'read-only': true });
      expect(bitmapsInImage(path)).toEqual(['b auto 65536']);
      await reader.close();
      const writer = await openImage(path);
      expect(bitmapsInImage(path)).toEqual(['b in-use+auto 65536']);
      await writer.close();
      expect(bitmapsInImage(path)).toEqual(['b auto 65536']);
      sound(path);
    });

    it('cleared, merged, disabled, enabled and removed', async () => {
      const path = createImage({ path: `${scratch()}/image`, size: 8 * MIB });
      const first = await openImage(path);
      for (const name of ['cleared', 'merged', 'disabled', 'removed', 'enabled']) {
        add(first.graph, name, { disabled: name === 'enabled' });
      }
      await writeSome(first, 1);
      await first.close();
      const second = await openImage(path);
      const { graph } = second;
      clearDirtyBitmap(graph, { node: 'image', name: 'cleared' });
      mergeDirtyBitmaps(graph, { node: 'image', target: 'enabled', bitmaps: ['merged'] });
      enableDirtyBitmap(graph, { node: 'image', name: 'enabled' }, { enabled: true });
      enableDirtyBitmap(graph, { node: 'image', name: 'disabled' }, { enabled: false });
      await removeDirtyBitmap(graph, { node: 'image', name: 'removed' });
      expect(bitmapsInImage(path).map((line) => line.split(' ')[0])).toEqual([
        'enabled',
        'disabled',
        'merged',
        'cleared',
      ]);
      await writeSome(second, 2, 3);
      const ours = await bitmapsOf(second);
      await second.close();
      expect(bitmapsByReference(path)).toEqual(ours);
      expect(bitmapsInImage(path)).toEqual([
        'enabled auto 65536',
        'disabled - 65536',
        'merged auto 65536',
        'cleared auto 65536',
      ]);
      sound(path);
      for (const name of ['cleared', 'merged', 'disabled', 'enabled']) {
        const disk = await openImage(path);
        await removeDirtyBitmap(disk.graph, { node: 'image', name });
        await disk.close();
        sound(path);
      }
      expect(bitmapsInImage(path)).toEqual([]);
    });

    it('follow a change of the length', async () => {
      const path = createImage({
        path: `${scratch()}/image`,
        size: 4 * MIB,
        options: 'cluster_size=512',
      });
      qemuImg('bitmap', '--add', '-g', '512', path, 'b');
      for (const size of [40 * MIB, MIB, 9 * MIB]) {
        const disk = await openImage(path);
        await writeSome(disk, size, 5);
        const node = disk.graph.find(undefined, 'image');

        const backend = disk.graph.backend(node, { perm: PERM_RESIZE, shared: PERM_ALL });
        await backend.truncate(size, { exact: true, prealloc: 'off', flags: 0 });
        await backend.release();
        await writeSome(disk, size, 5);
        const ours = await bitmapsOf(disk);
        await disk.close();
        expect(bitmapsByReference(path)).toEqual(ours);
        sound(path);
      }
    });
  },
);
