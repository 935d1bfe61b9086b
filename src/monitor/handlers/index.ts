// All commands: the compiler refuses a schema entry without a handler, and the other way round.

import type { CommandHandlers } from '../../qapi/generated/commands.ts';
import type { DaemonServices } from '../daemon-services.ts';
import { blockCoreHandlers } from './block-core.ts';
import { blockExportHandlers } from './block-export.ts';
import { charHandlers } from './char.ts';
import { controlHandlers } from './control.ts';
import { dirtyBitmapHandlers } from './dirty-bitmap.ts';
import { jobHandlers } from './job.ts';
import { qomHandlers } from './qom.ts';
import { transactionHandlers } from './transaction.ts';
import { ownNbdServerHandlers } from './x-nbd-server.ts';
import { ownTlsCredsHandlers } from './x-tls-creds.ts';

export const handlers = {
  ...controlHandlers,
  ...charHandlers,
  ...qomHandlers,
  ...blockCoreHandlers,
  ...dirtyBitmapHandlers,
  ...jobHandlers,
  ...transactionHandlers,
  ...blockExportHandlers,
  ...ownNbdServerHandlers,
  ...ownTlsCredsHandlers,
} satisfies CommandHandlers<DaemonServices>;
