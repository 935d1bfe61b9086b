// The commands of x-nbd-server.json: ours, not the reference's.

import type { CommandHandlers } from '../../qapi/generated/commands.ts';
import type { DaemonServices } from '../daemon-services.ts';

export const ownNbdServerHandlers = {
  'x-query-nbd-clients': (_args, { engine }) => engine.exports.queryNbdClients(),
  'x-nbd-client-disconnect': (args, { engine }) => engine.exports.disconnectNbdClient(args.id),
  'x-nbd-client-events': (args, { engine }) => engine.exports.announceNbdClients(args.enable),
  'x-block-export-del': (args, { engine }) => engine.exports.retire(args.id, args.mode),
} satisfies Partial<CommandHandlers<DaemonServices>>;
