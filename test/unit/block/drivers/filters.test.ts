// Every filter, through the battery that all of them go through; `raw` without a window is one in all but name.

import {
  MAY_UNMAP,
  PERM_CONSISTENT_READ,
  PERM_RESIZE,
  PERM_WRITE,
  PERM_WRITE_UNCHANGED,
  WRITE_COMPRESSED,
} from '../../../../src/block/block-driver.ts';
import type { BlockGraph } from '../../../../src/block/block-graph.ts';
import { type FilterRow, filterBattery } from './filter-battery.ts';

const WRITES_AND_RESIZES = PERM_WRITE | PERM_RESIZE;

/** The same disk once more. */
const other = async (graph: BlockGraph): Promise<unknown> =>
  graph.add({ driver: 'null-aio', 'node-name': 'other', discard: 'unmap' });

const filters: Readonly<Record<string, FilterRow>> = {
  blkdebug: {
    options: { image: 'below', 'set-state': [{ event: 'none', new_state: 2 }] },
  },
  blkverify: {
    options: { raw: 'below', test: 'other' },
    prepare: other,
    notReopened: 'does not support reopening files',
    // Flushed is but the one that is tested.
    requests: [
      'write 4096+4096 0',
      'write 4096+4096 0',
      'flush 0+0 0',
      'write 8192+4096 0',
      'write 8192+4096 0',
      'flush 0+0 0',
    ],
    cannot: ['discard'],
    keepsLength: true,
    end: ['flush', 'flush', 'close'],
  },
  blklogwrites: {
    options: { file: 'below', log: 'log' },
    prepare: async (graph) =>
      graph.add({ driver: 'null-co', 'node-name': 'log', size: 1024 * 1024 }),
    notReopened: 'does not support reopening files',
    // Whoever is above does what flags ask for.
    requests: [
      'write 4096+4096 0',
      'flush 0+0 0',
      'zero 8192+4096 0',
      'discard 16384+4096 0',
      'flush 0+0 0',
    ],
  },
  compress: {
    options: { file: 'below' },
    requests: [
      `write 4096+4096 ${WRITE_COMPRESSED}`,
      'flush 0+0 0',
      `zero 8192+4096 ${MAY_UNMAP}`,
      'discard 16384+4096 0',
      'flush 0+0 0',
    ],
    notReopened: 'does not support reopening files',
  },
  'copy-before-write': {
    options: { file: 'below', target: 'target' },
    prepare: async (graph) =>
      graph.add({
        driver: 'null-co',
        'node-name': 'target',
        size: 256 * 1024,
        'read-zeroes': true,
      }),
    below: (perm, shared) => [
      (perm & PERM_WRITE) === 0 ? perm : perm | PERM_CONSISTENT_READ,
      shared & ~WRITES_AND_RESIZES,
    ],
    notReopened: 'does not support reopening files',
    filename: /^json:.*"driver": "null-aio"/,
  },
  'copy-on-read': {
    options: { file: 'below' },
    below: (perm, shared) => [perm | PERM_WRITE_UNCHANGED, shared | PERM_WRITE_UNCHANGED],
    notReopened: 'does not support reopening files',
    needsWriting: true,
  },
  preallocate: {
    options: { file: 'below', 'prealloc-size': 0, 'prealloc-align': 512 },
    below: (perm, shared) => {
      const alone = (perm & WRITES_AND_RESIZES) === WRITES_AND_RESIZES;
      return [perm, alone ? shared & ~WRITES_AND_RESIZES : shared];
    },
  },
  quorum: {
    options: { children: ['below', 'other'], 'vote-threshold': 2 },
    prepare: other,
    notReopened: 'does not support reopening files',
    requests: [
      'write 4096+4096 0',
      'write 4096+4096 0',
      'flush 0+0 0',
      'flush 0+0 0',
      `zero 8192+4096 ${MAY_UNMAP}`,
      `zero 8192+4096 ${MAY_UNMAP}`,
      'flush 0+0 0',
      'flush 0+0 0',
    ],
    cannot: ['discard', 'resize'],
    tellsNoOffsets: true,
    // Its children have to stay the same.
    below: (perm, shared) => [perm, shared & (PERM_CONSISTENT_READ | PERM_WRITE_UNCHANGED)],
    end: ['flush', 'flush', 'close'],
  },
  raw: {
    options: { file: 'below' },
    filename: /^json:.*"driver": "raw"/,
  },
  throttle: {
    options: { file: 'below', 'throttle-group': 'g' },
    prepare: async (_graph, objects) => objects.add({ 'qom-type': 'throttle-group', id: 'g' }),
  },
};

for (const [name, row] of Object.entries(filters)) filterBattery(name, row);
