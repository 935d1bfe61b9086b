import { mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type BlockDriver,
  CHILD_COW,
  PERM_ALL,
  PERM_CONSISTENT_READ,
  PERM_WRITE,
} from '../../../src/block/block-driver.ts';
import type { BlockGraph } from '../../../src/block/block-graph.ts';
import { type RawState, raw } from '../../../src/block/drivers/raw.ts';
import { QmpError } from '../../../src/qapi/errors.ts';
import type { BlockdevOptions, BlockdevOptionsRaw } from '../../../src/qapi/generated/types.ts';
import { allocate } from '../../../src/sys/memory.ts';
import { testGraph } from './graph-fixture.ts';
import { ioError, memoryDisk } from './memory-driver.ts';

const READ_WRITE = PERM_CONSISTENT_READ | PERM_WRITE;

let folder = '';
let graph: BlockGraph;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'reopen-'));
  for (const [name, byte] of [
    ['a', 0xaa],
    ['b', 0xbb],
  ] as const) {
    writeFileSync(join(folder, name), Buffer.alloc(65536, byte));
  }
  graph = testGraph();
});

afterEach(async () => {
  await graph.close();
  rmSync(folder, { recursive: true });
});

const file = (name: string, more: object = {}): BlockdevOptions => ({
  driver: 'file',
  'node-name': name,
  filename: join(folder, name),
  ...more,
});
const rawOver = (reference: string, more: object = {}): BlockdevOptions => ({
  driver: 'raw',
  'node-name': 'r',
  file: reference,
  ...more,
});
const names = (): string[] => [...graph.nodes()].map((node) => node.nodeName);
/** How often a file is open, and for writing. */
function openings(name: string): string[] {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === join(folder, name);
    } catch {
      return false;
    }
  });
}

describe('BlockGraph.reopen', () => {
  it('refuses an empty list', async () => {
    await expect(graph.reopen([])).rejects.toThrow(QmpError);
  });

  it('shows the data of another file through the same handle', async () => {
    await graph.add(file('a'));
    await graph.add(file('b'));
    const node = await graph.add(rawOver('a'));
    const backend = graph.backend(node, { perm: READ_WRITE, shared: PERM_ALL });
    const into = allocate(4096);
    await backend.read(0, 4096, into, 0);
    expect(into.bytes[4095]).toBe(0xaa);
    await graph.reopen([rawOver('b', { offset: 512, size: 4096 })]);
    await backend.read(0, 4096, into, 0);
    expect(into.bytes[4095]).toBe(0xbb);
    expect(backend.length).toBe(4096);
    await backend.release();
  });

  it('lets the file that is given up be used in any way', async () => {
    await graph.add(file('a'));
    await graph.add(file('b'));
    const node = await graph.add(rawOver('a'));
    const backend = graph.backend(node, { perm: READ_WRITE, shared: PERM_CONSISTENT_READ });
    const a = graph.find(undefined, 'a');
    const write = { perm: PERM_WRITE, shared: PERM_ALL };
    expect(() => graph.backend(a, write)).toThrow('Permission conflict');
    await graph.reopen([rawOver('b')]);
    const other = graph.backend(a, write);
    await expect(graph.reopen([rawOver('a')])).rejects.toThrow('Permission conflict');
    expect(node.file?.node.nodeName).toBe('b');
    await other.release();
    await graph.reopen([rawOver('a')]);
    await backend.release();
  });

  it('closes a file that was defined inside the node and is given up', async () => {
    await graph.add(file('b'));
    await graph.add({ driver: 'raw', 'node-name': 'r', file: file('a') });
    expect(names()).toEqual(['r', 'a', 'b']);
    await graph.reopen([rawOver('b')]);
    expect(names()).toEqual(['r', 'b']);
    expect(openings('a')).toEqual([]);
  });

  it('leaves everything as it was when one of the list refuses', async () => {
    await graph.add(file('a'));
    await graph.add(file('b'));
    await graph.add({ driver: 'null-co', 'node-name': 'n', size: 512 });
    const node = await graph.add(rawOver('a'));
    const list = [
      file('a', { 'read-only': true, cache: { direct: true }, discard: 'unmap' }),
      rawOver('b', { offset: 512 }),
      { driver: 'null-co', 'node-name': 'n', size: 1024 } as const,
    ];
    await expect(graph.reopen(list)).rejects.toThrow("Cannot change the option 'size'");
    const a = graph.find(undefined, 'a');
    expect(a).toMatchObject({ readOnly: false, cacheDirect: false, unmap: false, drained: 0 });
    expect(node.file?.node).toBe(a);
    expect(a.parents.map((edge) => edge.parent.parentNode)).toEqual([node]);
    expect(graph.find(undefined, 'b').parents).toEqual([]);
    expect(node.length).toBe(65536);
    expect(openings('a')).toHaveLength(1);
  });

  it('leaves everything as it was when permissions refuse', async () => {
    const node = await graph.add(file('a'));
    const backend = graph.backend(node, { perm: READ_WRITE, shared: PERM_ALL });
    await graph.add(file('b'));
    await expect(
      graph.reopen([file('b', { 'read-only': true }), file('a', { 'read-only': true })]),
    ).rejects.toThrow("Read-only block node 'a' cannot support read-write users");
    expect(node.readOnly).toBe(false);
    expect(graph.find(undefined, 'b').readOnly).toBe(false);
    expect(openings('b')).toHaveLength(1);
    await backend.release();
    await graph.reopen([file('b', { 'read-only': true }), file('a', { 'read-only': true })]);
    expect(node.readOnly).toBe(true);
    expect(() => graph.backend(node, { perm: READ_WRITE, shared: PERM_ALL })).toThrow(
      'Block node is read-only',
    );
  });

  it('serves with direct I/O after it was asked for, and without it again', async () => {
    const node = await graph.add(file('a'));
    const backend = graph.backend(node, { perm: READ_WRITE, shared: PERM_ALL });
    const into = allocate(8192);
    for (const direct of [true, false]) {
      await graph.reopen([file('a', { cache: { direct } })]);
      expect(node.cacheDirect).toBe(direct);
      // Neither the offset nor the memory is aligned.
      await backend.read(7, 1000, into, 3);
      expect(into.bytes.subarray(3, 1003).every((byte) => byte === 0xaa)).toBe(true);
      await backend.write(7, 1000, into, 3);
    }
    expect(openings('a')).toHaveLength(1);
    await backend.release();
  });

  it('waits for requests in flight and holds new ones back', async () => {
    const disk = memoryDisk({ size: 65536 });
    graph = testGraph({ ...disk.driver, reopen: () => ({ commit() {} }) });
    await graph.add({ driver: 'null-aio', 'node-name': 'm' });
    await graph.add(file('b'));
    const node = await graph.add(rawOver('m'));
    const backend = graph.backend(node, { perm: READ_WRITE, shared: PERM_ALL });
    let finish: () => void = () => {};
    disk.behave = (call) =>
      call.operation === 'read'
        ? new Promise((resolve) => {
            finish = () => resolve();
          })
        : undefined;
    const first = allocate(512);
    const second = allocate(512);
    const inFlight = backend.read(0, 512, first, 0);
    let reopened = false;
    const reopening = graph.reopen([rawOver('b')]).then(() => {
      reopened = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    const held = backend.read(0, 512, second, 0);
    await new Promise((resolve) => setImmediate(resolve));
    expect(reopened).toBe(false);
    finish();
    await Promise.all([inFlight, reopening, held]);
    expect([first.bytes[0], second.bytes[0]]).toEqual([0, 0xbb]);
    await backend.release();
  });

  it('stops at a node that cannot be flushed', async () => {
    const disk = memoryDisk({ size: 65536 });
    graph = testGraph({ ...disk.driver, reopen: () => ({ commit() {} }) });
    const node = await graph.add({ driver: 'null-aio', 'node-name': 'm' });
    const backend = graph.backend(node, { perm: READ_WRITE, shared: PERM_ALL });
    await backend.write(0, 512, allocate(512), 0);
    await backend.release();
    disk.behave = (call) => (call.operation === 'flush' ? ioError('EIO') : undefined);
    await expect(
      graph.reopen([{ driver: 'null-aio', 'node-name': 'm', 'read-only': true }]),
    ).rejects.toThrow('Error flushing drive: Input/output error');
    expect(node).toMatchObject({ readOnly: false, drained: 0 });
  });

  it('refuses a driver that cannot', async () => {
    graph = testGraph(memoryDisk({ size: 512 }).driver);
    await graph.add({ driver: 'null-aio', 'node-name': 'm' });
    await expect(graph.reopen([{ driver: 'null-aio', 'node-name': 'm' }])).rejects.toThrow(
      "Block format 'null-aio' used by node 'm' does not support reopening files",
    );
  });

  it('tells a driver exactly once what came of what it has prepared', async () => {
    const told: string[] = [];
    const driver = {
      ...memoryDisk({ size: 512 }).driver,
      reopen: () => ({
        commit: () => void told.push('commit'),
        afterCommit: () => void told.push('after'),
        abort: () => void told.push('abort'),
      }),
    };
    graph = testGraph(driver);
    await graph.add({ driver: 'null-aio', 'node-name': 'm' });
    const options: BlockdevOptions = { driver: 'null-aio', 'node-name': 'm' };
    await expect(graph.reopen([{ ...options, size: 5 }])).rejects.toThrow('Cannot change');
    await graph.reopen([options]);
    expect(told).toEqual(['abort', 'commit', 'after']);
  });
});

describe('BlockGraph.reopen: backing', () => {
  /** A format with a backing file, under the name of null-aio. */
  beforeEach(() => {
    const format: BlockDriver<RawState, BlockdevOptionsRaw & { backing?: string | null }> = {
      ...raw,
      name: 'null-aio',
      supportsBacking: true,
      async open(node, options, context) {
        const { backing } = options;
        if (typeof backing === 'string') await context.openChild('backing', backing, CHILD_COW);
        return raw.open(node, options, context);
      },
    };
    graph = testGraph(format);
  });

  const top = (more: object): BlockdevOptions =>
    ({ driver: 'null-aio', 'node-name': 'top', file: 'a', ...more }) as never;

  it('is replaced, taken away and given', async () => {
    await graph.add(file('a'));
    await graph.add(file('b'));
    await graph.add({ driver: 'null-co', 'node-name': 'n' });
    const node = await graph.add(top({ backing: 'b' }));
    const b = graph.find(undefined, 'b');
    await graph.reopen([top({ backing: 'n' })]);
    expect(node.backing?.node.nodeName).toBe('n');
    expect(b.parents).toEqual([]);
    await graph.reopen([top({ backing: null })]);
    expect(node.backing).toBeUndefined();
    await graph.reopen([top({})]);
    await graph.reopen([top({ backing: 'b' })]);
    expect(node.backing).toMatchObject({ name: 'backing', role: CHILD_COW, node: b });
    expect(b.drained).toBe(0);
    await expect(graph.remove('b')).rejects.toThrow("Node 'b' is busy");
  });

  it('has to be said where there is one', async () => {
    await graph.add(file('a'));
    await graph.add(file('b'));
    await graph.add(top({ backing: 'b' }));
    await expect(graph.reopen([top({})])).rejects.toThrow("backing is missing for 'top'");
    await expect(graph.reopen([top({ backing: 'top' })])).rejects.toThrow(
      "Making 'top' a backing child of 'top' would create a cycle",
    );
  });

  it('is as it was when the list fails', async () => {
    await graph.add(file('a'));
    await graph.add(file('b'));
    await graph.add({ driver: 'null-co', 'node-name': 'n' });
    const node = await graph.add(top({ backing: 'b' }));
    const wrong: BlockdevOptions = { driver: 'null-co', 'node-name': 'n', size: 5 };
    for (const backing of [null, 'n']) {
      await expect(graph.reopen([top({ backing }), wrong])).rejects.toThrow('size');
      expect(node.backing?.node.nodeName).toBe('b');
      expect(graph.find(undefined, 'b').parents).toHaveLength(1);
      expect(graph.find(undefined, 'n')).toMatchObject({ parents: [], drained: 0 });
    }
    expect(node.drained).toBe(0);
  });
});

describe('BlockGraph.describe', () => {
  it('numbers owners and nodes as they are first mentioned', async () => {
    await graph.add(file('a'));
    const node = await graph.add(rawOver('a'));
    const backend = graph.backend(node, { perm: PERM_WRITE, shared: PERM_ALL });
    expect(graph.describe()).toEqual({
      nodes: [
        { id: 2, type: 'block-driver', name: 'r' },
        { id: 3, type: 'block-driver', name: 'a' },
        { id: 1, type: 'block-backend', name: '' },
      ],
      edges: [
        expect.objectContaining({ parent: 2, child: 3, name: 'file' }),
        {
          parent: 1,
          child: 2,
          name: 'root',
          perm: ['write'],
          'shared-perm': ['resize', 'write-unchanged', 'write', 'consistent-read'],
        },
      ],
    });
    await backend.release();
    expect(graph.describe().nodes.map(({ name }) => name)).toEqual(['r', 'a']);
  });
});
