import { describe, expect, it } from 'vitest';
import {
  type BlockDriver,
  CHILD_COW,
  CHILD_DATA,
  CHILD_FILTER,
  CHILD_IMAGE,
  CHILD_PRIMARY,
  PERM_ALL,
  PERM_CONSISTENT_READ,
  PERM_RESIZE,
  PERM_WRITE,
  PERM_WRITE_UNCHANGED,
} from '../../../src/block/block-driver.ts';
import type { BlockGraph } from '../../../src/block/block-graph.ts';
import type { BlockNode } from '../../../src/block/block-node.ts';
import {
  cumulativePermissions,
  defaultChildPermissions,
  permissionNames,
} from '../../../src/block/permissions.ts';
import { QmpError } from '../../../src/qapi/errors.ts';
import { testGraph } from './graph-fixture.ts';
import { memoryDisk } from './memory-driver.ts';

const READ = PERM_CONSISTENT_READ;
const ALL_BUT_RESIZE = PERM_ALL & ~PERM_RESIZE;

function conflictOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof QmpError) return error.desc;
    throw error;
  }
  return 'none';
}

async function nullNode(graph: BlockGraph, name: string): Promise<BlockNode> {
  return graph.add({ driver: 'null-co', 'node-name': name });
}

describe('permissionNames', () => {
  it('spells them as the reference does', () => {
    expect(permissionNames(PERM_ALL)).toBe('consistent read, write, write unchanged, resize');
    expect(permissionNames(PERM_WRITE | PERM_RESIZE)).toBe('write, resize');
  });
});

describe('defaultChildPermissions', () => {
  const writable = { readOnly: false } as BlockNode;
  const readOnly = { readOnly: true } as BlockNode;
  const users = { perm: READ | PERM_WRITE, shared: PERM_ALL };

  it('passes everything through a filter', () => {
    expect(defaultChildPermissions(writable, CHILD_FILTER, users)).toEqual(users);
  });

  it('only reads a backing file, and shares change where the users share writing', () => {
    expect(defaultChildPermissions(writable, CHILD_COW, users)).toEqual({
      perm: READ,
      shared: PERM_ALL,
    });
    expect(
      defaultChildPermissions(writable, CHILD_COW, { perm: READ, shared: PERM_ALL & ~PERM_WRITE }),
    ).toEqual({ perm: READ, shared: READ | PERM_WRITE_UNCHANGED });
  });

  it('writes and resizes the image of a writable format though nobody writes', () => {
    const idle = { perm: 0, shared: PERM_ALL };
    expect(defaultChildPermissions(writable, CHILD_IMAGE, idle)).toEqual({
      perm: READ | PERM_WRITE | PERM_RESIZE,
      shared: READ | PERM_WRITE_UNCHANGED,
    });
    expect(defaultChildPermissions(readOnly, CHILD_IMAGE, idle)).toEqual({
      perm: READ,
      shared: READ | PERM_WRITE_UNCHANGED,
    });
  });

  it('may grow a data file that it writes to', () => {
    expect(defaultChildPermissions(writable, CHILD_DATA | CHILD_PRIMARY, users)).toEqual({
      perm: READ | PERM_WRITE | PERM_RESIZE,
      shared: ALL_BUT_RESIZE,
    });
    const unchanged = { perm: PERM_WRITE_UNCHANGED, shared: PERM_ALL };
    expect(defaultChildPermissions(writable, CHILD_DATA, unchanged).perm).toBe(
      PERM_WRITE | PERM_WRITE_UNCHANGED | PERM_RESIZE,
    );
  });
});

describe('a conflict', () => {
  it('between two owners names both as the reference does', async () => {
    const graph = testGraph();
    const node = await nullNode(graph, 'top');
    graph.backend(node, { perm: READ, shared: ALL_BUT_RESIZE });
    expect(conflictOf(() => graph.backend(node, { perm: PERM_RESIZE, shared: PERM_ALL }))).toBe(
      "Permission conflict on node 'top': permissions 'resize' are both required by an unnamed " +
        "block device (uses node 'top' as 'root' child) and unshared by an unnamed block device " +
        "(uses node 'top' as 'root' child).",
    );
    expect(node.parents.length).toBe(1);
  });

  it('names an owner that has a name', async () => {
    const graph = testGraph();
    const node = await nullNode(graph, 'top');
    graph.backend(node, { perm: PERM_WRITE, shared: PERM_ALL, name: 'disk0' });
    expect(conflictOf(() => graph.backend(node, { perm: READ, shared: READ, name: 'disk1' }))).toBe(
      "Permission conflict on node 'top': permissions 'write' are both required by block device " +
        "'disk0' (uses node 'top' as 'root' child) and unshared by block device 'disk1' " +
        "(uses node 'top' as 'root' child).",
    );
  });

  it('further down names the nodes in between', async () => {
    const graph = testGraph();
    await nullNode(graph, 'base');
    const r0 = await graph.add({ driver: 'raw', 'node-name': 'r0', file: 'base' });
    await graph.add({ driver: 'raw', 'node-name': 'r1', file: 'base', offset: 512 });
    expect(conflictOf(() => graph.backend(r0, { perm: PERM_RESIZE, shared: PERM_ALL }))).toBe(
      "Permission conflict on node 'base': permissions 'resize' are both required by node 'r0' " +
        "(uses node 'base' as 'file' child) and unshared by node 'r1' (uses node 'base' as 'file' child).",
    );
    expect(cumulativePermissions(graph.find(undefined, 'base')).perm).toBe(0);
  });

  it('does not arise where the child is opened with force-share', async () => {
    const graph = testGraph();
    const node = await graph.add({
      driver: 'raw',
      'node-name': 'r',
      'read-only': true,
      file: { driver: 'null-co', 'node-name': 'base', 'force-share': true },
    });
    graph.backend(node, { perm: READ, shared: READ });
    expect(cumulativePermissions(graph.find(undefined, 'base')).shared).toBe(PERM_ALL);
  });
});

describe('setPermissions', () => {
  it('changes what an owner holds, or leaves everything as it was', async () => {
    const graph = testGraph();
    const node = await nullNode(graph, 'top');
    const first = graph.backend(node, { perm: READ, shared: ALL_BUT_RESIZE });
    const second = graph.backend(node, { perm: READ, shared: PERM_ALL });
    second.setPermissions(READ | PERM_WRITE, PERM_ALL);
    expect(node.perm).toBe(READ | PERM_WRITE);
    expect(conflictOf(() => second.setPermissions(PERM_RESIZE, PERM_ALL))).toContain('resize');
    expect(second.perm).toBe(READ | PERM_WRITE);
    second.setPermissions(READ, PERM_ALL);
    expect(node.perm).toBe(READ);
    await first.release();
    second.setPermissions(PERM_RESIZE, PERM_ALL);
    expect(node.perm).toBe(PERM_RESIZE);
  });
});

describe('a permission update', () => {
  /** A disk that notes what its permission hooks are called with, and refuses writers on demand. */
  function lockingDisk() {
    const log: string[] = [];
    const disk = memoryDisk({ size: 4096 });
    const lock = { refusesWriters: false };
    const driver: BlockDriver = {
      ...disk.driver,
      checkPermissions(_node, perm, shared) {
        log.push(`check ${perm} ${shared}`);
        if (lock.refusesWriters && (perm & PERM_WRITE) !== 0) {
          throw new QmpError('Failed to get "write" lock');
        }
      },
      setPermissions(_node, perm, shared) {
        log.push(`set ${perm} ${shared}`);
      },
      abortPermissions() {
        log.push('abort');
      },
    };
    return { driver, log, lock };
  }

  it('checks every node below, then commits', async () => {
    const { driver, log } = lockingDisk();
    const graph = testGraph(driver);
    const top = await graph.add({ driver: 'raw', 'node-name': 'r', file: { driver: 'null-aio' } });
    log.length = 0;
    const backend = graph.backend(top, { perm: READ | PERM_WRITE, shared: ALL_BUT_RESIZE });
    await backend.release();
    expect(log).toEqual(['check 3 7', 'set 3 7', 'check 0 15', 'set 0 15']);
  });

  it('that the driver refuses leaves no trace', async () => {
    const { driver, log, lock } = lockingDisk();
    const graph = testGraph(driver);
    const top = await graph.add({
      driver: 'raw',
      'node-name': 'r',
      file: { driver: 'null-aio', 'node-name': 'disk' },
    });
    lock.refusesWriters = true;
    log.length = 0;
    const writer = () => graph.backend(top, { perm: PERM_WRITE, shared: PERM_ALL });
    expect(conflictOf(writer)).toBe('Failed to get "write" lock');
    expect(log).toEqual(['check 2 15']);
    expect(top.parents).toEqual([]);
    expect(graph.find(undefined, 'disk').parents[0]?.perm).toBe(0);
  });

  it('rolls back the nodes that had agreed when a later one refuses', async () => {
    const { driver, log } = lockingDisk();
    const filter: BlockDriver = {
      ...driver,
      kind: 'filter',
      async open(_node, _options, context) {
        return context.openChild('file', 'base', CHILD_FILTER);
      },
    };
    const graph = testGraph(filter);
    const base = await nullNode(graph, 'base');
    graph.backend(base, { perm: READ, shared: ALL_BUT_RESIZE });
    const top = await graph.add({ driver: 'null-aio', 'node-name': 'top' });
    log.length = 0;
    expect(conflictOf(() => graph.backend(top, { perm: PERM_RESIZE, shared: PERM_ALL }))).toContain(
      "on node 'base'",
    );
    expect(log).toEqual(['check 8 15', 'abort']);
    expect(top.file?.perm).toBe(0);
    expect(top.parents).toEqual([]);
  });
});
