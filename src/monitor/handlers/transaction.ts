// transaction.json, and the commands that are transactions of one action.

import { changeBackingFile } from '../../block/change-backing-file.ts';
import {
  addBitmapAction,
  clearBitmapAction,
  enableBitmapAction,
  mergeBitmapsAction,
  removeBitmapAction,
} from '../../block/dirty-bitmap-actions.ts';
import type { GraphAccess } from '../../block/graph-access.ts';
import { snapshotAction, snapshotSyncAction } from '../../block/snapshot-external.ts';
import { deleteInternalSnapshot, InternalSnapshotAction } from '../../block/snapshot-internal.ts';
import { runTransaction, type TransactionAction } from '../../block/transaction.ts';
import type { Engine } from '../../engine.ts';
import { QmpError } from '../../qapi/errors.ts';
import type { CommandHandlers } from '../../qapi/generated/commands.ts';
import type {
  ActionCompletionMode,
  TransactionActionKind,
  TransactionAction as Wish,
} from '../../qapi/generated/types.ts';
import type { DaemonServices } from '../daemon-services.ts';

type Wished<Kind extends TransactionActionKind> = Extract<Wish, { type: Kind }>['data'];

interface ActionRow<Kind extends TransactionActionKind> {
  /** It starts a job, which may share the fate of others. */
  readonly grouped: boolean;
  make(graph: GraphAccess, data: Wished<Kind>): TransactionAction;
}

const aborting: TransactionAction = {
  prepare() {
    throw new QmpError('Transaction aborted using Abort action');
  },
};

const actions: { readonly [Kind in TransactionActionKind]: ActionRow<Kind> } = {
  // It has no say in the matter: it fails anyway.
  abort: { grouped: true, make: () => aborting },
  'block-dirty-bitmap-add': { grouped: false, make: addBitmapAction },
  'block-dirty-bitmap-remove': { grouped: false, make: removeBitmapAction },
  'block-dirty-bitmap-clear': { grouped: false, make: clearBitmapAction },
  'block-dirty-bitmap-enable': {
    grouped: false,
    make: (graph, data) => enableBitmapAction(graph, data, { enabled: true }),
  },
  'block-dirty-bitmap-disable': {
    grouped: false,
    make: (graph, data) => enableBitmapAction(graph, data, { enabled: false }),
  },
  'block-dirty-bitmap-merge': { grouped: false, make: mergeBitmapsAction },
  'blockdev-snapshot': { grouped: false, make: snapshotAction },
  'blockdev-snapshot-internal-sync': {
    grouped: false,
    make: (graph, data) => new InternalSnapshotAction(graph, data),
  },
  'blockdev-snapshot-sync': { grouped: false, make: snapshotSyncAction },
};

export const transactionHandlers = {
  transaction: ({ actions: wishes, properties }, { engine }) =>
    together(engine, wishes, properties?.['completion-mode'] ?? 'individual'),
  'blockdev-snapshot': (data, { engine }) => alone(engine, { type: 'blockdev-snapshot', data }),
  'blockdev-snapshot-sync': (data, { engine }) =>
    alone(engine, { type: 'blockdev-snapshot-sync', data }),
  'blockdev-snapshot-internal-sync': (data, { engine }) =>
    alone(engine, { type: 'blockdev-snapshot-internal-sync', data }),
  'blockdev-snapshot-delete-internal-sync': (args, { engine }) =>
    engine.graph.change((graph) => deleteInternalSnapshot(graph, args)),
  'change-backing-file': (args, { engine }) =>
    engine.graph.change((graph) => changeBackingFile(graph, args)),
} satisfies Partial<CommandHandlers<DaemonServices>>;

function alone(engine: Engine, wish: Wish): Promise<void> {
  return together(engine, [wish], 'individual');
}

function together(
  { graph }: Engine,
  wishes: readonly Wish[],
  mode: ActionCompletionMode,
): Promise<void> {
  return graph.change(async (access) => {
    // What they do is one moment to everybody else.
    const end = await access.drainAll();
    try {
      await runTransaction(wishes.map((wish) => actionFor(access, wish, mode)));
    } finally {
      end();
    }
  });
}

function actionFor(
  graph: GraphAccess,
  { type, data }: Wish,
  mode: ActionCompletionMode,
): TransactionAction {
  const row = actions[type];
  if (mode === 'individual' || row.grouped) return row.make(graph, data as never);
  return {
    prepare() {
      throw new QmpError(
        `Action '${type}' does not support Transaction property completion-mode = ${mode}`,
      );
    },
  };
}
