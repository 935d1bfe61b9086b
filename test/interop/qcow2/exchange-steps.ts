// What each of the two does to an image in turn, in this order.

import { MAY_UNMAP } from '../../../src/block/block-driver.ts';
import {
  addDirtyBitmap,
  clearDirtyBitmap,
  enableDirtyBitmap,
  mergeDirtyBitmaps,
  removeDirtyBitmap,
} from '../../../src/block/dirty-bitmap-commands.ts';
import type { Layout } from './exchange-model.ts';
import type { OurSide, QemuSide } from './exchange-sides.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

export interface Step {
  readonly name: string;
  /** There are persistent bitmaps before or after it. */
  readonly hasBitmaps?: true;
  ours(side: OurSide): Promise<void>;
  theirs(side: QemuSide): void;
}

export function stepsFor(layout: Layout): readonly Step[] {
  const { hasBacking, dataFile, without, amendments = [] } = layout;
  const size = sizeOf(layout);
  const isVersion2 = layout.options.includes('compat=0.10');
  const ownData = dataFile === undefined;
  const hasSnapshots = ownData && without !== 'snapshots';
  // Version 2 cannot say that there is nothing over a backing file.
  const hasZeroes = !isVersion2 || hasBacking !== true;
  return [
    ...requests,
    ...(hasZeroes && dataFile !== 'raw' ? [discard(layout)] : []),
    ...(ownData && hasZeroes && without !== 'compression' ? compression(layout) : []),
    ...(hasSnapshots ? snapshots : []),
    ...(hasZeroes ? lengths(size) : []),
    ...(hasSnapshots && !isVersion2 ? lengthsAndSnapshots(size) : []),
    ...(isVersion2 ? [] : bitmaps(size).map((step): Step => ({ ...step, hasBitmaps: true }))),
    ...amendments.map(amendment),
    ...(hasBacking === true ? backings : []),
  ];
}

/** The disk to begin with, bytes. */
export function sizeOf({ clusterSize }: Layout): number {
  return 3 * Math.max(clusterSize, MIB);
}

/** Whole clusters. */
function unitOf({ clusterSize }: Layout): number {
  return Math.max(clusterSize, 64 * KIB);
}

const requests: readonly Step[] = [
  {
    name: 'writes',
    async ours(side) {
      await side.write(100_000, 300_000);
      await side.write(1_234_567, 1000);
    },
    theirs(side) {
      side.write(300_000, 200_000);
      side.write(2 * MIB, 70_000);
    },
  },
  {
    name: 'zeroes',
    async ours(side) {
      await side.zero(128 * KIB, 64 * KIB);
      await side.zero(500 * KIB, 300 * KIB, MAY_UNMAP);
    },
    theirs(side) {
      side.zero(50_000, 70_000);
      side.zero(2 * MIB, 64 * KIB, '-u');
    },
  },
  {
    name: 'writes where zeroes are',
    ours: (side) => side.write(180_000, 350_000),
    theirs: (side) => side.write(2 * MIB + 5000, 50_000),
  },
];

function discard(layout: Layout): Step {
  const unit = unitOf(layout);
  return {
    name: 'discards',
    ours: (side) => side.discard(unit, unit),
    theirs: (side) => side.discard(2 * unit, unit),
  };
}

function compression(layout: Layout): readonly Step[] {
  const unit = unitOf(layout);
  return [
    {
      name: 'compressed clusters',
      ours: (side) => side.compress(0, unit),
      theirs: (side) => side.compress(2 * unit, unit),
    },
    {
      name: 'writes over compressed clusters',
      ours: (side) => side.write(2 * unit + 5000, 3000),
      theirs: (side) => side.write(5000, 3000),
    },
  ];
}

const snapshots: readonly Step[] = [
  {
    name: 'a snapshot of ours',
    ours: (side) => side.take('ours'),
    theirs: (side) => side.write(200_000, 200_000),
  },
  {
    name: 'a snapshot of theirs',
    ours: (side) => side.write(350_000, 100_000),
    theirs: (side) => side.take('theirs'),
  },
  {
    name: 'clusters that two snapshots have',
    async ours(side) {
      await side.write(0, MIB);
      await side.zero(MIB, MIB, MAY_UNMAP);
    },
    theirs: (side) => side.apply('ours'),
  },
  {
    name: 'a snapshot that is deleted here',
    ours: (side) => side.drop('ours'),
    theirs: (side) => side.apply('theirs'),
  },
  {
    name: 'a snapshot that is deleted there',
    ours: (side) => side.write(20_000, 30_000),
    theirs: (side) => side.drop('theirs'),
  },
];

function lengths(size: number): readonly Step[] {
  return [
    {
      name: 'a longer disk',
      ours: (side) => side.resize(size + MIB + 512),
      theirs: (side) => side.write(size - 10_000, 30_000),
    },
    {
      name: 'a shorter disk',
      ours: (side) => side.resize(size - 2 * MIB - 5 * 512),
      theirs: (side) => side.resize(size + 2 * MIB + 512),
    },
    {
      name: 'a disk that is as long as before',
      ours: (side) => side.write(size - 5000, 50_000),
      theirs: (side) => side.resize(size),
    },
  ];
}

function lengthsAndSnapshots(size: number): readonly Step[] {
  return [
    {
      name: 'a disk longer than its snapshot',
      async ours(side) {
        await side.take('short');
        await side.resize(size + 2 * MIB);
        await side.write(size - 1000, MIB);
      },
      theirs: (side) => side.apply('short'),
    },
    {
      name: 'a disk that was put back',
      ours: (side) => side.drop('short'),
      theirs: (side) => side.write(MIB, 10_000),
    },
  ];
}

function bitmaps(size: number): readonly Step[] {
  return [
    {
      name: 'bitmaps',
      async ours(side) {
        addDirtyBitmap(side.graph, { node: 'image', name: 'ours', persistent: true });
        await side.write(300_000, 10_000);
      },
      theirs(side) {
        side.bitmap('theirs', '--add', '-g', '4096');
        side.write(MIB, 100_000);
      },
    },
    {
      name: 'merged bitmaps',
      async ours(side) {
        mergeDirtyBitmaps(side.graph, { node: 'image', target: 'ours', bitmaps: ['theirs'] });
        await side.zero(2 * MIB, 200_000);
      },
      theirs: (side) => side.bitmap('theirs', '--merge', 'ours'),
    },
    {
      name: 'bitmaps of a disk that changes its length',
      async ours(side) {
        await side.resize(size + 2 * MIB);
        await side.write(size, 100_000);
      },
      theirs: (side) => side.resize(size),
    },
    {
      name: 'bitmaps that are cleared, disabled and enabled',
      async ours(side) {
        clearDirtyBitmap(side.graph, { node: 'image', name: 'theirs' });
        enableDirtyBitmap(side.graph, { node: 'image', name: 'ours' }, { enabled: false });
        await side.write(2 * MIB, 5000);
      },
      theirs(side) {
        side.bitmap('theirs', '--clear');
        side.bitmap('ours', '--enable');
      },
    },
    {
      name: 'removed bitmaps',
      async ours(side) {
        await side.write(MIB + 5000, 5000);
        await removeDirtyBitmap(side.graph, { node: 'image', name: 'theirs' });
      },
      theirs: (side) => side.bitmap('ours', '--remove'),
    },
  ];
}

function amendment(options: string): Step {
  return {
    name: `an image that is amended: ${options}`,
    async ours(side) {
      await side.write(400_000, 300_000);
      await side.zero(450_000, 100_000, MAY_UNMAP);
    },
    theirs: (side) => side.amend(options),
  };
}

/** Files named are beside the image: `base` and `same` hold the same, `other` does not. */
const backings: readonly Step[] = [
  {
    name: 'another name for the backing file, by us',
    ours: (side) => side.changeBacking('same'),
    theirs: (side) => side.write(700_000, 10_000),
  },
  {
    name: 'another name for the backing file, by them',
    ours: (side) => side.write(800_000, 10_000),
    theirs: (side) => side.rebase('base', { unsafe: true }),
  },
  {
    name: 'another backing file',
    ours: (side) => side.write(900_000, 10_000),
    theirs: (side) => side.rebase('other', { unsafe: false }),
  },
  {
    name: 'a commit',
    ours: (side) => side.write(1_000_000, 10_000),
    theirs: (side) => side.commit(),
  },
];
