// Nodes without a graph: one driver at a time, opened directly, closed after the test.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach } from 'vitest';
import { systemClock } from '../../../../src/base/clock.ts';
import { silentLogger } from '../../../../src/base/log.ts';
import { noRing, type RingSource } from '../../../../src/base/request-ring.ts';
import { createTrace } from '../../../../src/base/trace.ts';
import { BlockChild, type ChildParent } from '../../../../src/block/block-child.ts';
import { type BlockDriver, PERM_ALL } from '../../../../src/block/block-driver.ts';
import { BlockNode, defaultLimits, type NodeSettings } from '../../../../src/block/block-node.ts';
import { BouncePool } from '../../../../src/block/bounce-pool.ts';
import type { OpenContext } from '../../../../src/block/driver-context.ts';
import type { BlockdevOptions } from '../../../../src/qapi/generated/types.ts';
import { allocate } from '../../../../src/sys/memory.ts';

const cleanups: (() => void)[] = [];

afterEach(() => {
  for (const cleanup of cleanups.splice(0).toReversed()) cleanup();
});

/** A directory of its own, removed after the test. `base`: somewhere else than the temporary directory. */
export function scratch(base = tmpdir()): string {
  const path = mkdtempSync(join(base, 'drivers-'));
  cleanups.push(() => rmSync(path, { recursive: true }));
  return path;
}

export interface NodeOptions {
  readonly settings?: Partial<NodeSettings>;
  /** The node that `openChild` answers. */
  readonly child?: BlockNode;
  /** Default: there is none. */
  readonly ring?: RingSource;
}

/** Opens a node with `driver`. */
export async function openNode<State, Options>(
  driver: BlockDriver<State, Options>,
  options: Options,
  { settings = {}, child, ring = noRing }: NodeOptions = {},
): Promise<BlockNode<State>> {
  const node = new BlockNode<State>({
    nodeName: 'node0',
    driver,
    options: {} as BlockdevOptions,
    readOnly: false,
    autoReadOnly: false,
    forceShare: false,
    active: true,
    cacheDirect: false,
    cacheNoFlush: false,
    unmap: true,
    detectZeroes: 'off',
    pool: new BouncePool(allocate),
    ...settings,
  });
  node.state = await driver.open(node, options, contextFor(node, child, ring));
  cleanups.push(() => void driver.close?.(node));
  node.limits = defaultLimits();
  driver.refreshLimits?.(node, node.limits);
  node.refreshLength();
  node.phase = 'open';
  return node;
}

function contextFor(node: BlockNode, child: BlockNode | undefined, ring: RingSource): OpenContext {
  return {
    log: silentLogger,
    events: { emit() {} },
    trace: createTrace(),
    poller: {
      watch() {
        throw new Error('no poller here');
      },
    },
    objects: { find: () => undefined },
    clock: systemClock,
    lookUp: () => undefined,
    driver(name) {
      throw new Error(`no driver ${name} here`);
    },
    fdsByNumber: false,
    signal: new AbortController().signal,
    servedFiles: new Set(),
    allocate,
    ring,
    openChild(name, _reference, role) {
      if (child === undefined) throw new Error('no child here');
      const edge = new BlockChild({
        name,
        node: child,
        role,
        parent: parentOf(node),
        perm: PERM_ALL,
        shared: PERM_ALL,
      });
      node.file = edge;
      return Promise.resolve(edge);
    },
  };
}

function parentOf(node: BlockNode): ChildParent {
  return {
    parentNode: node,
    describe: () => `node '${node.nodeName}'`,
    drainBegin() {},
    drainEnd() {},
    resized() {},
  };
}
