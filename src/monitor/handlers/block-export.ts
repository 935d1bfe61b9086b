// The commands of block-export.json.

import type { CommandHandlers } from '../../qapi/generated/commands.ts';
import type { DaemonServices } from '../daemon-services.ts';

export const blockExportHandlers = {
  'nbd-server-start': (args, { engine }) => engine.exports.startNbdServerByQmp(args),
  'nbd-server-add': (args, { engine }) => engine.exports.addLegacy(args),
  'nbd-server-remove': (args, { engine }) => engine.exports.removeLegacy(args.name, args.mode),
  'nbd-server-stop': (_args, { engine }) => engine.exports.stopNbdServer(),
  'block-export-add': (args, { engine }) => engine.exports.addByQmp(args),
  'block-export-del': (args, { engine }) => engine.exports.remove(args.id, args.mode),
  'query-block-exports': (_args, { engine }) => engine.exports.query(),
} satisfies Partial<CommandHandlers<DaemonServices>>;
