// block-core.json: adding, deleting, resizing and describing nodes.

import type { BlockBackend } from '../../block/block-backend.ts';
import { PERM_ALL, PERM_RESIZE } from '../../block/block-driver.ts';
import { changeChild } from '../../block/change-child.ts';
import { whileDrained } from '../../block/drain.ts';
import { truncate } from '../../block/io-truncate.ts';
import { overlayOf } from '../../block/op-blockers.ts';
import { blockDeviceInfo, nodeStats } from '../../block/query.ts';
import { setWriteThreshold } from '../../block/write-threshold.ts';
import { amendJob } from '../../job/drivers/amend.ts';
import { createJob } from '../../job/drivers/create.ts';
import { QmpError } from '../../qapi/errors.ts';
import type { CommandHandlers } from '../../qapi/generated/commands.ts';
import type { DaemonServices } from '../daemon-services.ts';

export const blockCoreHandlers = {
  'blockdev-add': async (options, daemon) => {
    await daemon.engine.graph.add(options);
  },
  'blockdev-del': async (args, daemon) => {
    await daemon.engine.graph.remove(args['node-name']);
  },
  'blockdev-set-active': ({ 'node-name': name, active }, { engine }) =>
    engine.graph.setActive(name, active),
  'blockdev-reopen': ({ options }, { engine }) => engine.graph.reopen(options),
  'x-blockdev-change': (args, { engine }) =>
    engine.graph.change((graph) => changeChild(graph, args)),
  'blockdev-create': ({ 'job-id': id, options }, { engine }) => {
    const driver = createJob(engine.graph, options);
    engine.jobs.start({ id, driver, autoFinalize: true, autoDismiss: false });
  },
  'x-blockdev-amend': ({ 'job-id': id, 'node-name': name, options }, { engine }) => {
    const driver = amendJob(engine.graph, name, options);
    engine.jobs.start({ id, driver, autoFinalize: true, autoDismiss: false });
  },
  'query-named-block-nodes': (args, daemon) =>
    [...daemon.engine.graph.nodes()].map((node) =>
      blockDeviceInfo(node, { flat: args.flat === true }),
    ),
  'x-debug-query-block-graph': (_, { engine }) => engine.graph.describe(),
  // Devices only, and a storage daemon has none.
  'query-block': () => [],
  'query-blockstats': (args, daemon) =>
    args['query-nodes'] === true ? [...daemon.engine.graph.nodes()].reverse().map(nodeStats) : [],
  'block-set-write-threshold': (args, { engine }) =>
    setWriteThreshold(engine.graph, args['node-name'], args['write-threshold']),
  block_resize: async (args, { engine: { graph } }) => {
    let backend: BlockBackend | undefined;
    try {
      await graph.change(async (access) => {
        const node = access.find(args.device, args['node-name']);
        if (args.size < 0) throw new QmpError("Parameter 'size' expects a >0 size");
        if (overlayOf(node) !== undefined) {
          // A device that is not named is said so.
          throw new QmpError(`Device '${args.device ?? '(null)'}' is in use`);
        }
        backend = graph.backend(node, { perm: PERM_RESIZE, shared: PERM_ALL });
        await whileDrained(node, () =>
          truncate(node, args.size, { exact: false, prealloc: 'off', flags: 0 }),
        );
      });
    } finally {
      await backend?.release();
    }
  },
} satisfies Partial<CommandHandlers<DaemonServices>>;
