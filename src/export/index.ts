// The export types there are; the compiler keeps the list complete.

import type { BlockExportType } from '../qapi/generated/types.ts';
import type { ExportDriver } from './export-driver.ts';
import { fuse } from './fuse/fuse-export.ts';
import { nbd } from './nbd/nbd-export.ts';
import { vhostUserBlk } from './vhost-user/vhost-user-blk.ts';

export const exportDrivers = { nbd, 'vhost-user-blk': vhostUserBlk, fuse } satisfies {
  readonly [Type in BlockExportType]: ExportDriver<Type>;
};
