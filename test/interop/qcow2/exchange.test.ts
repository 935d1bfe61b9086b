// Images that are handed to and fro between us and qemu's tools: whatever we change, qemu-img finds the image sound and the disk as it
// should be, and whatever its tools change then, we read the same.

import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { describe, expect, it } from 'vitest';
import { bitmapsByReference } from '../../helpers/qcow2-bitmaps.ts';
import { someContent } from '../../helpers/qcow2-disk.ts';
import {
  checkImage,
  createImage,
  noQemuImg,
  qemuImg,
  rawFile,
  scratch,
} from '../../helpers/qcow2-images.ts';
import { referenceMissing } from '../../helpers/reference.ts';
import { ExchangeModel, type Layout } from './exchange-model.ts';
import { OurSide, QemuSide } from './exchange-sides.ts';
import { type Step, sizeOf, stepsFor } from './exchange-steps.ts';

const KIB = 1024;
const BITMAPS = ['ours', 'theirs'];
const reason = noQemuImg ?? referenceMissing();

const layouts: readonly Layout[] = [
  {
    options: 'cluster_size=64K',
    clusterSize: 64 * KIB,
    amendments: ['compat=0.10', 'compat=1.1', 'refcount_bits=64', 'lazy_refcounts=on'],
  },
  { options: 'compat=0.10,cluster_size=4K', clusterSize: 4 * KIB, hasBacking: true },
  { options: 'compat=0.10', clusterSize: 64 * KIB, amendments: ['compat=1.1'] },
  { options: 'cluster_size=512,refcount_bits=64', clusterSize: 512 },
  {
    options: 'cluster_size=1K,refcount_bits=1',
    clusterSize: KIB,
    without: 'snapshots',
    amendments: ['refcount_bits=8'],
  },
  {
    options: 'cluster_size=2K,refcount_bits=2',
    clusterSize: 2 * KIB,
    without: 'snapshots',
  },
  {
    options: 'cluster_size=8K,refcount_bits=4,preallocation=metadata',
    clusterSize: 8 * KIB,
    without: 'compression',
  },
  {
    options: 'cluster_size=4K,refcount_bits=8,lazy_refcounts=on',
    clusterSize: 4 * KIB,
    amendments: ['lazy_refcounts=off'],
  },
  {
    options: 'cluster_size=2M,refcount_bits=32,compression_type=zstd',
    clusterSize: 2048 * KIB,
  },
  {
    options: 'extended_l2=on,cluster_size=16K,compression_type=zstd',
    clusterSize: 16 * KIB,
    hasBacking: true,
  },
  {
    options: 'extended_l2=on,cluster_size=64K,data_file=DIR/data',
    clusterSize: 64 * KIB,
    dataFile: 'qcow2',
  },
  {
    options: 'cluster_size=4K,data_file=DIR/data,data_file_raw=on',
    clusterSize: 4 * KIB,
    dataFile: 'raw',
  },
];

describe.skipIf(reason !== undefined)('an image that is handed to and fro', () => {
  it.each(layouts)(
    'is the same to both, with $options',
    async (layout) => {
      const path = `${scratch()}/image`;
      const model = makeImage(path, layout);
      const exchange = { path, model, layout };
      const qemu = new QemuSide(path, model);
      let before: Step | undefined;
      for (const step of stepsFor(layout)) {
        await changedByUs(exchange, before, step);
        expectSound(exchange, step);
        step.theirs(qemu);
        before = step;
      }
      await changedByUs(exchange, before);
      expect(checkImage(path)).toMatchObject({ status: 0 });
    },
    180_000,
  );
});

interface Exchange {
  readonly path: string;
  readonly model: ExchangeModel;
  readonly layout: Layout;
}

/** Where there is a backing file, it is `base`; `same` holds the same, `other` does not. */
function makeImage(path: string, layout: Layout): ExchangeModel {
  const dir = dirname(path);
  const size = sizeOf(layout);
  const options = layout.options.replace('DIR', dir);
  if (layout.hasBacking !== true) {
    createImage({ path, size, options });
    return new ExchangeModel(Buffer.alloc(size));
  }
  const base = someContent(7, size);
  makeBacking(`${dir}/base`, base);
  makeBacking(`${dir}/same`, base);
  makeBacking(`${dir}/other`, someContent(8, size));
  createImage({ path, size, options: `${options},backing_file=base,backing_fmt=qcow2` });
  return new ExchangeModel(base);
}

function makeBacking(path: string, content: Buffer): void {
  qemuImg('convert', '-f', 'raw', '-O', 'qcow2', rawFile(`${path}.raw`, content), path);
}

/** Reads what the others did `before`, and carries the step out. */
async function changedByUs(
  { path, model }: Exchange,
  before: Step | undefined,
  step?: Step,
): Promise<void> {
  const theirs = `${before?.name}, by them`;
  const stored = before?.hasBitmaps === true ? bitmapsByReference(path, BITMAPS) : [];
  const ours = await OurSide.open(path, model);
  try {
    expect([theirs, await ours.bitmaps()]).toEqual([theirs, stored]);
    expectEqual(await ours.contents(), model.disk, theirs);
    await step?.ours(ours);
    const bitmaps = await ours.bitmaps();
    await ours.close();
    if (step?.hasBitmaps !== true) return;
    expect([step.name, bitmapsByReference(path, BITMAPS)]).toEqual([step.name, bitmaps]);
  } finally {
    await ours.close();
  }
}

/** qemu-img finds nothing wrong, and the disk as it should be. */
function expectSound({ path, model, layout }: Exchange, { name }: Step): void {
  expect([name, checkImage(path)]).toMatchObject([name, { status: 0 }]);
  const expected = rawFile(`${path}.raw`, model.disk);
  const compared = qemuImg('compare', '-f', 'raw', '-F', 'qcow2', expected, path);
  expect([name, compared]).toEqual([name, 'Images are identical.\n']);
  if (layout.dataFile !== 'raw') return;
  // Its last cluster may be a whole one.
  const data = readFileSync(`${dirname(path)}/data`).subarray(0, model.disk.length);
  expectEqual(data, model.disk, `${name}, in the data file`);
}

function expectEqual(found: Buffer, expected: Buffer, what: string | undefined): void {
  expect([what, found.length, found.equals(expected)]).toEqual([what, expected.length, true]);
}
