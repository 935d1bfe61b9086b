// transaction.json and the commands that are transactions of one action.

import type { GraphAccess } from '../../block/block-graph.ts';
import { changeBackingFile } from '../../block/change-backing-file.ts';
import { snapshotAction, snapshotSyncAction } from '../../block/snapshot-external.ts';
import { deleteInternalSnapshot, InternalSnapshotAction } from '../../block/snapshot-internal.ts';
import { runTransaction, type TransactionAction } from '../../block/transaction.ts';
import type { Engine } from '../../engine.ts';
import type { CommandHandlers } from '../../qapi/generated/commands.ts';
import type { DaemonServices } from '../daemon-services.ts';

export const transactionHandlers = {
  'blockdev-snapshot': (args, { engine }) => alone(engine, (graph) => snapshotAction(graph, args)),
  'blockdev-snapshot-sync': (args, { engine }) =>
    alone(engine, (graph) => snapshotSyncAction(graph, args)),
  'change-backing-file': (args, { engine }) =>
    engine.graph.change((graph) => changeBackingFile(graph, args)),
  'blockdev-snapshot-internal-sync': (args, { engine }) =>
    alone(engine, (graph) => new InternalSnapshotAction(graph, args)),
  'blockdev-snapshot-delete-internal-sync': (args, { engine }) =>
    engine.graph.change((graph) => deleteInternalSnapshot(graph, args)),
} satisfies Partial<CommandHandlers<DaemonServices>>;

function alone({ graph }: Engine, make: (access: GraphAccess) => TransactionAction): Promise<void> {
  return graph.change((access) => runTransaction([make(access)]));
}
