// The command of x-tls-creds.json: ours, not the reference's.

import { reloadTlsCredentials } from '../../object/tls-creds.ts';
import type { CommandHandlers } from '../../qapi/generated/commands.ts';
import type { DaemonServices } from '../daemon-services.ts';

export const ownTlsCredsHandlers = {
  'x-tls-creds-reload': ({ id }, { objects }) => reloadTlsCredentials(id, objects),
} satisfies Partial<CommandHandlers<DaemonServices>>;
