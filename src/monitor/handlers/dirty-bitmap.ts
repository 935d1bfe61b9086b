// block-core.json: dirty bitmaps of nodes.

import {
  addDirtyBitmap,
  clearDirtyBitmap,
  enableDirtyBitmap,
  hashDirtyBitmap,
  mergeDirtyBitmaps,
  removeDirtyBitmap,
} from '../../block/dirty-bitmap-commands.ts';
import type { CommandHandlers } from '../../qapi/generated/commands.ts';
import type { DaemonServices } from '../daemon-services.ts';

export const dirtyBitmapHandlers = {
  'block-dirty-bitmap-add': (args, { engine }) => addDirtyBitmap(engine.graph, args),
  'block-dirty-bitmap-remove': (args, { engine }) =>
    engine.graph.change((graph) => removeDirtyBitmap(graph, args)),
  'block-dirty-bitmap-clear': (args, { engine }) => clearDirtyBitmap(engine.graph, args),
  'block-dirty-bitmap-enable': (args, { engine }) =>
    enableDirtyBitmap(engine.graph, args, { enabled: true }),
  'block-dirty-bitmap-disable': (args, { engine }) =>
    enableDirtyBitmap(engine.graph, args, { enabled: false }),
  'block-dirty-bitmap-merge': (args, { engine }) => mergeDirtyBitmaps(engine.graph, args),
  'x-debug-block-dirty-bitmap-sha256': async (args, { engine }) => ({
    sha256: await hashDirtyBitmap(engine.graph, args),
  }),
} satisfies Partial<CommandHandlers<DaemonServices>>;
