// All block drivers, by name. A driver in the schema without a row here does not compile, and the other way round.

import type { BlockdevDriver } from '../../qapi/generated/types.ts';
import type { BlockDriver } from '../block-driver.ts';
import { blkdebug } from './blkdebug.ts';
import { blklogwrites } from './blklogwrites.ts';
import { blkverify } from './blkverify.ts';
import { compress } from './compress.ts';
import { copyBeforeWrite } from './copy-before-write.ts';
import { copyOnReadFilter } from './copy-on-read.ts';
import { file, hostDevice } from './file/file.ts';
import { nbd } from './nbd/driver.ts';
import { nullAio, nullCo } from './null.ts';
import { preallocate } from './preallocate.ts';
import { qcow2 } from './qcow2/driver.ts';
import { quorum } from './quorum.ts';
import { raw } from './raw.ts';
import { snapshotAccess } from './snapshot-access.ts';
import { throttle } from './throttle.ts';

export const blockDrivers: { readonly [Name in BlockdevDriver]: BlockDriver } = {
  blkdebug,
  blklogwrites,
  blkverify,
  compress,
  'copy-before-write': copyBeforeWrite,
  'copy-on-read': copyOnReadFilter,
  file,
  host_device: hostDevice,
  nbd,
  'null-aio': nullAio,
  'null-co': nullCo,
  preallocate,
  qcow2,
  quorum,
  raw,
  'snapshot-access': snapshotAccess,
  throttle,
};
