// Every filter, through the battery that all of them go through; `raw` without a window is one in all but name.

import {
  PERM_CONSISTENT_READ,
  PERM_RESIZE,
  PERM_WRITE,
  PERM_WRITE_UNCHANGED,
} from '../../../../src/block/block-driver.ts';
import { type FilterRow, filterBattery } from './filter-battery.ts';

const WRITES_AND_RESIZES = PERM_WRITE | PERM_RESIZE;

const filters: Readonly<Record<string, FilterRow>> = {
  blkdebug: {
    options: { image: 'below', 'set-state': [{ event: 'none', new_state: 2 }] },
  },
  blklogwrites: {
    options: { file: 'below', log: 'log' },
    prepare: async (graph) =>
      graph.add({ driver: 'null-co', 'node-name': 'log', size: 1024 * 1024 }),
    notReopened: 'does not support reopening files',
    noFlags: true,
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
