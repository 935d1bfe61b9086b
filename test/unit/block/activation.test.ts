// blockdev-set-active and what an inactive node refuses; two graphs stand for two processes, whose locks keep them apart.

import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { errno } from '../../../src/base/errno.ts';
import { IoError } from '../../../src/base/errors.ts';
import {
  type BlockDriver,
  PERM_ALL,
  PERM_CONSISTENT_READ,
  PERM_RESIZE,
  PERM_WRITE,
} from '../../../src/block/block-driver.ts';
import type { BlockGraph } from '../../../src/block/block-graph.ts';
import { addDirtyBitmap, removeDirtyBitmap } from '../../../src/block/dirty-bitmap-commands.ts';
import type { ImageFile } from '../../../src/block/drivers/file/image-file.ts';
import { blockDeviceInfo } from '../../../src/block/query.ts';
import { snapshotAction } from '../../../src/block/snapshot-external.ts';
import { runTransaction } from '../../../src/block/transaction.ts';
import type { BlockdevOptions } from '../../../src/qapi/generated/types.ts';
import { allocate } from '../../../src/sys/memory.ts';
import { bufferOf } from '../../helpers/qcow2-disk.ts';
import { recordedImage } from './drivers/qcow2/recorded.ts';
import { testGraph } from './graph-fixture.ts';
import { memoryDisk } from './memory-driver.ts';

let folder = '';
const graphs: BlockGraph[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'activation-'));
  writeFileSync(join(folder, 'image'), recordedImage());
});

afterEach(async () => {
  for (const graph of graphs.splice(0)) await graph.close();
  rmSync(folder, { recursive: true });
});

function newGraph(...parts: Parameters<typeof testGraph>): BlockGraph {
  const graph = testGraph(...parts);
  graphs.push(graph);
  return graph;
}

const image = (): BlockdevOptions => ({
  driver: 'qcow2',
  'node-name': 'n',
  file: { driver: 'file', 'node-name': 'f', filename: join(folder, 'image') },
});

const writes = { perm: PERM_CONSISTENT_READ | PERM_WRITE, shared: PERM_ALL };
const reads = { perm: PERM_CONSISTENT_READ, shared: PERM_ALL };

function inactiveOf(graph: BlockGraph): string[] {
  return [...graph.nodes()]
    .filter(({ active }) => !active)
    .map(({ nodeName }) => nodeName)
    .toSorted();
}

describe('an inactive node', () => {
  it('lets another process have the image, and takes it back', async () => {
    const [ours, theirs] = [newGraph(), newGraph()];
    await ours.add(image());
    const other = await theirs.add({ ...image(), active: false });
    expect(inactiveOf(theirs)).toEqual(['f', 'n']);
    await expect(theirs.setActive('n', true)).rejects.toThrow('Failed to get "write" lock');
    expect(inactiveOf(theirs)).toEqual(['f', 'n']);
    await ours.setActive('n', false);
    await theirs.setActive('n', true);
    const backend = theirs.backend(other, writes);
    await backend.write(0, 512, bufferOf(Buffer.alloc(512, 7)), 0);
    await expect(ours.setActive('n', true)).rejects.toThrow('Failed to get "write" lock');
    await expect(theirs.setActive('n', false)).rejects.toThrow(
      'Failed to inactivate node: Operation not permitted',
    );
    expect(inactiveOf(theirs)).toEqual([]);
    await backend.release();
    await theirs.setActive('n', false);
    await ours.setActive('n', true);
    const into = allocate(512);
    await ours.backend(ours.find('n', 'n'), reads).read(0, 512, into, 0);
    expect(into.bytes[0]).toBe(7);
  });

  it('is told of as such, and an active one not at all', async () => {
    const graph = newGraph();
    const node = await graph.add(image());
    expect(blockDeviceInfo(node, { flat: true })).not.toHaveProperty('active');
    await graph.setActive('n', false);
    expect(blockDeviceInfo(node, { flat: true }).active).toBe(false);
  });

  it('leaves the cache of its file alone when it becomes active, where it shall', async () => {
    const filename = join(folder, 'large');
    writeFileSync(filename, Buffer.alloc(65536, 1));
    const graph = newGraph();
    const options = { driver: 'file', 'node-name': 'f', filename, 'drop-cache': false } as const;
    const node = await graph.add({ ...options, active: false });
    const isCached = (): boolean => {
      const { fd, reader } = node.state as ImageFile;
      return reader.read(fd, allocate(512).address, 512, 32768) === 512;
    };
    const before = readFileSync(filename).length === 65536 && isCached();
    await graph.setActive('f', true);
    expect(isCached()).toBe(before);
  });

  it('can be read, and refuses permission for the rest', async () => {
    const graph = newGraph();
    const node = await graph.add({ ...image(), active: false });
    await graph.backend(node, reads).read(0, 512, allocate(512), 0);
    expect(() => graph.backend(node, writes)).toThrow(
      "Permission 'write' unavailable on inactive node",
    );
    // Not a conflict with somebody who would not have it resized.
    graph.backend(node, { perm: PERM_CONSISTENT_READ, shared: PERM_ALL & ~PERM_RESIZE });
    expect(() => graph.backend(node, { perm: PERM_RESIZE, shared: PERM_ALL })).toThrow(
      "Permission 'resize' unavailable on inactive node",
    );
  });

  it('cannot be what an active one stands on', async () => {
    const graph = newGraph();
    await graph.add({ ...image(), active: false });
    const text = "Inactive 'n' can't be a file child of active 'r'";
    const raw = { driver: 'raw', 'node-name': 'r', file: 'n' } as const;
    await expect(graph.add(raw)).rejects.toThrow(text);
    await expect(
      graph.add({ ...raw, file: { driver: 'null-co', active: false, 'node-name': 'm' } }),
    ).rejects.toThrow("Inactive 'm' can't be a file child of active 'r'");
    await graph.add({ ...raw, active: false });
    await graph.setActive('n', true);
    expect(inactiveOf(graph)).toEqual(['r']);
    await graph.setActive('n', false);
    await graph.setActive('r', true);
    expect(inactiveOf(graph)).toEqual([]);
  });

  it('keeps its options', async () => {
    const graph = newGraph();
    await graph.add(image());
    const options = { ...image(), file: 'f' } as BlockdevOptions;
    const text = "Cannot change the option 'active'";
    await expect(graph.reopen([{ ...options, active: false }])).rejects.toThrow(text);
    await graph.reopen([{ ...options, active: true }]);
    await graph.setActive('n', false);
    await expect(graph.reopen([options])).rejects.toThrow("Cannot reopen inactive node 'n'");
  });

  it('takes no bitmap that would have to be stored', async () => {
    const graph = newGraph();
    await graph.add({ ...image(), active: false });
    const add = (name: string, persistent: boolean): Promise<void> =>
      graph.change(async (access) => addDirtyBitmap(access, { node: 'n', name, persistent }));
    await expect(add('kept', true)).rejects.toThrow(
      "Can't make bitmap 'kept' persistent in 'n': Node is inactive",
    );
    await add('lost', false);
    await graph.change((access) => removeDirtyBitmap(access, { node: 'n', name: 'lost' }));
  });

  it('is not known by a wrong name', async () => {
    await expect(newGraph().setActive('x', true)).rejects.toThrow(
      "Failed to find node with node-name='x'",
    );
  });
});

describe('making nodes inactive', () => {
  it('is done to those that no active node uses', async () => {
    const graph = newGraph();
    await graph.add({ driver: 'null-co', 'node-name': 'shared' });
    for (const name of ['a', 'b']) {
      await graph.add({ driver: 'raw', 'node-name': name, file: 'shared', 'read-only': true });
    }
    await expect(graph.setActive('shared', false)).rejects.toThrow('Node has active parent node');
    await graph.setActive('a', false);
    expect(inactiveOf(graph)).toEqual(['a']);
    await graph.setActive('a', false);
    await graph.setActive('b', false);
    expect(inactiveOf(graph)).toEqual(['a', 'b', 'shared']);
    await graph.setActive(undefined, true);
    expect(inactiveOf(graph)).toEqual([]);
    await graph.setActive(undefined, false);
    expect(inactiveOf(graph)).toEqual(['a', 'b', 'shared']);
  });

  it('is done to all or none', async () => {
    const graph = newGraph();
    await graph.add(image());
    const node = await graph.add({ driver: 'null-co', 'node-name': 'written' });
    const backend = graph.backend(node, writes);
    await expect(graph.setActive(undefined, false)).rejects.toThrow(
      'Failed to inactivate all nodes: Operation not permitted',
    );
    expect(inactiveOf(graph)).toEqual([]);
    await backend.release();
    await graph.setActive(undefined, false);
    expect(inactiveOf(graph)).toEqual(['f', 'n', 'written']);
  });

  it('goes back to how it was when a driver fails', async () => {
    const happened: string[] = [];
    const { driver } = memoryDisk({ size: 65536 });
    const failing: BlockDriver = {
      ...driver,
      inactivate() {
        throw new IoError(errno.ENOSPC, { syscall: 'test' });
      },
    };
    const watched: BlockDriver = {
      ...driver,
      name: 'throttle',
      async open(_node, _options, context) {
        await context.openChild('file', 'failing', 1);
        return undefined;
      },
      length: () => 65536,
      inactivate: () => void happened.push('inactivate'),
      activate: () => void happened.push('activate'),
      close() {},
    };
    const graph = newGraph(failing, { drivers: { throttle: watched } });
    await graph.add({ driver: 'null-aio', 'node-name': 'failing' });
    await graph.add({
      driver: 'throttle',
      'node-name': 'top',
      file: 'failing',
      'throttle-group': '',
    });
    await expect(graph.setActive('top', false)).rejects.toThrow(
      'Failed to inactivate node: No space left on device',
    );
    expect(happened).toEqual(['inactivate', 'activate']);
    expect(inactiveOf(graph)).toEqual([]);
  });

  it('keeps a bitmap that cannot be stored, and the node that it is of', async () => {
    const graph = newGraph();
    const node = await graph.add({
      driver: 'qcow2',
      'node-name': 'n',
      file: {
        driver: 'blkdebug',
        'node-name': 'd',
        image: { driver: 'file', 'node-name': 'f', filename: join(folder, 'image') },
        'inject-error': [{ event: 'none', iotype: 'write', errno: errno.ENOSPC, once: true }],
      },
    });
    await graph.change(async (access) =>
      addDirtyBitmap(access, { node: 'n', name: 'b', persistent: true }),
    );
    await expect(graph.setActive('n', false)).rejects.toThrow('Failed to inactivate node: ');
    expect(inactiveOf(graph)).toEqual([]);
    expect(node.dirtyBitmaps[0]).toMatchObject({ name: 'b', readOnly: false });
    const backend = graph.backend(node, writes);
    await backend.write(0, 512, bufferOf(Buffer.alloc(512, 1)), 0);
    await backend.release();
    await graph.setActive('n', false);
    await graph.setActive('n', true);
    expect(node.dirtyBitmaps[0]?.dirtyBytes).toBeGreaterThan(0);
  });

  it('waits for requests in flight, and writes what they wrote', async () => {
    const disk = memoryDisk({ size: 65536 });
    const graph = newGraph(disk.driver);
    const node = await graph.add({ driver: 'null-aio', 'node-name': 'n' });
    const backend = graph.backend(node, writes);
    let finish = (): void => {};
    disk.behave = ({ operation }) =>
      operation === 'write' ? new Promise<void>((resolve) => (finish = resolve)) : undefined;
    const write = backend.write(0, 512, bufferOf(Buffer.alloc(512, 1)), 0);
    backend.setPermissions(PERM_CONSISTENT_READ, PERM_ALL);
    const done = graph.setActive('n', false);
    finish();
    await Promise.all([write, done]);
    expect(disk.calls.map(({ operation }) => operation)).toEqual(['write', 'flush']);
  });

  it('is refused while a bitmap that would go is in use', async () => {
    const graph = newGraph();
    const node = await graph.add(image());
    await graph.change(async (access) =>
      addDirtyBitmap(access, { node: 'n', name: 'b', persistent: true }),
    );
    const [bitmap] = node.dirtyBitmaps;
    if (bitmap === undefined) throw new Error('It was added');
    bitmap.busy = true;
    await expect(graph.setActive('n', false)).rejects.toThrow(
      "Failed to inactivate node: Bitmap 'b' is currently in use by another operation and cannot be used",
    );
    expect(inactiveOf(graph)).toEqual([]);
    bitmap.busy = false;
    await graph.setActive('n', false);
    expect(node.dirtyBitmaps).toEqual([]);
    await graph.setActive('n', true);
    expect(node.dirtyBitmaps.map(({ name }) => name)).toEqual(['b']);
  });
});

describe('making nodes active', () => {
  it('refuses what is no image any more, and can be tried again', async () => {
    const graph = newGraph();
    await graph.add(image());
    await graph.setActive('n', false);
    const path = join(folder, 'image');
    const before = readFileSync(path);
    writeFileSync(path, Buffer.alloc(before.length, 1));
    await expect(graph.setActive('n', true)).rejects.toThrow(
      'Could not reopen qcow2 layer: Image is not in qcow2 format',
    );
    expect(inactiveOf(graph)).toEqual(['f', 'n']);
    writeFileSync(path, before);
    await graph.setActive('n', true);
    expect(inactiveOf(graph)).toEqual([]);
  });

  it('refuses a bitmap whose name another one has got', async () => {
    const graph = newGraph();
    const node = await graph.add(image());
    const add = (persistent: boolean): Promise<void> =>
      graph.change(async (access) => addDirtyBitmap(access, { node: 'n', name: 'b', persistent }));
    await add(true);
    await graph.setActive('n', false);
    await add(false);
    await expect(graph.setActive('n', true)).rejects.toThrow('Bitmap already exists: b');
    expect(node.dirtyBitmaps).toHaveLength(1);
    await graph.change((access) => removeDirtyBitmap(access, { node: 'n', name: 'b' }));
    await graph.setActive('n', true);
    expect(node.dirtyBitmaps[0]).toMatchObject({ persistent: true, inconsistent: false });
  });
});

describe('a snapshot of an inactive node', () => {
  const add = (graph: BlockGraph, name: string, active: boolean): Promise<unknown> =>
    graph.add({
      driver: 'qcow2',
      'node-name': name,
      active,
      file: { driver: 'file', 'node-name': `${name}f`, filename: join(folder, name) },
    });
  const snapshot = (graph: BlockGraph, node: string, overlay: string): Promise<void> =>
    graph.change((access) => runTransaction([snapshotAction(access, { node, overlay })]));

  beforeEach(() => {
    for (const name of ['base', 'over']) writeFileSync(join(folder, name), recordedImage());
  });

  it('has an inactive overlay', async () => {
    const graph = newGraph();
    await add(graph, 'base', false);
    await add(graph, 'over', true);
    await snapshot(graph, 'base', 'over');
    expect(inactiveOf(graph)).toEqual(['base', 'basef', 'over', 'overf']);
    await graph.setActive('over', true);
    expect(inactiveOf(graph)).toEqual([]);
  });

  it('leaves the overlay as it was when there is another action that fails', async () => {
    const graph = newGraph();
    await add(graph, 'base', false);
    await add(graph, 'over', true);
    await expect(
      graph.change((access) =>
        runTransaction([
          snapshotAction(access, { node: 'base', overlay: 'over' }),
          snapshotAction(access, { node: 'over', overlay: 'nobody' }),
        ]),
      ),
    ).rejects.toThrow('nobody');
    expect(inactiveOf(graph)).toEqual(['base', 'basef']);
  });

  it('cannot be put under an active user of an active node', async () => {
    const graph = newGraph();
    await add(graph, 'base', true);
    await graph.add({ driver: 'raw', 'node-name': 'user', file: 'base', 'read-only': true });
    await add(graph, 'over', false);
    await expect(snapshot(graph, 'base', 'over')).rejects.toThrow(
      "Inactive 'over' can't be a file child of active 'user'",
    );
    expect(inactiveOf(graph)).toEqual(['over', 'overf']);
  });
});

describe('a preallocating filter', () => {
  it('gives back what is not used, and finds what another process made of the file', async () => {
    const graph = newGraph();
    const filename = join(folder, 'disk');
    writeFileSync(filename, Buffer.alloc(65536));
    const node = await graph.add({
      driver: 'raw',
      'node-name': 'r',
      file: {
        driver: 'preallocate',
        'node-name': 'p',
        file: { driver: 'file', 'node-name': 'pf', filename },
      },
    });
    const beyond = async (offset: number): Promise<void> => {
      const backend = graph.backend(node, { perm: PERM_WRITE | PERM_RESIZE, shared: PERM_ALL });
      backend.writesBeyondEnd = true;
      await backend.write(offset, 512, bufferOf(Buffer.alloc(512, 1)), 0);
      expect(statSync(filename).size).toBeGreaterThan(2 ** 20);
      await backend.release();
    };
    await beyond(65536);
    await graph.setActive('r', false);
    expect(statSync(filename).size).toBe(65536 + 512);
    truncateSync(filename, 131072);
    await graph.setActive('r', true);
    expect(node.length).toBe(131072);
    await beyond(131072);
    await graph.setActive('r', false);
    expect(statSync(filename).size).toBe(131072 + 512);
  });
});
