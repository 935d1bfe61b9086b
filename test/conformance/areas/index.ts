// Every area, in the order in which they are recorded and tested.

import type { Area } from '../case.ts';
import { amendments } from './amend.ts';
import { bitmapExports } from './bitmap-exports.ts';
import { blockdev } from './blockdev.ts';
import { chardev } from './chardev.ts';
import { commandLine } from './command-line.ts';
import { compress } from './compress.ts';
import { directIo } from './direct-io.ts';
import { dirtyBitmaps } from './dirty-bitmaps.ts';
import { exports } from './exports.ts';
import { filters } from './filters.ts';
import { fuseExports } from './fuse.ts';
import { graphCommands } from './graph-commands.ts';
import { jobs } from './jobs.ts';
import { jsonNames } from './json-names.ts';
import { nbdCache } from './nbd-cache.ts';
import { nbdClient } from './nbd-client.ts';
import { nbdCommands } from './nbd-commands.ts';
import { nbdNames } from './nbd-names.ts';
import { nbdOptions } from './nbd-options.ts';
import { objects } from './objects.ts';
import { parser } from './parser.ts';
import { qcow2Bitmaps } from './qcow2-bitmaps.ts';
import { qcow2Create } from './qcow2-create.ts';
import { qcow2Damage } from './qcow2-damage.ts';
import { reopen } from './reopen.ts';
import { session } from './session.ts';
import { snapshots } from './snapshots.ts';
import { tls } from './tls.ts';
import { transactions } from './transactions.ts';
import { vhostUser } from './vhost-user.ts';

export const areas: readonly Area[] = [
  parser,
  session,
  exports,
  vhostUser,
  blockdev,
  filters,
  jobs,
  qcow2Bitmaps,
  qcow2Create,
  qcow2Damage,
  compress,
  amendments,
  reopen,
  chardev,
  objects,
  commandLine,
  nbdOptions,
  nbdCommands,
  nbdCache,
  nbdClient,
  nbdNames,
  jsonNames,
  directIo,
  dirtyBitmaps,
  bitmapExports,
  graphCommands,
  snapshots,
  transactions,
  tls,
  fuseExports,
];
