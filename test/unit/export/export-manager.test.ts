import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Logger } from '../../../src/base/log.ts';
import { silentLogger } from '../../../src/base/log.ts';
import { createTrace } from '../../../src/base/trace.ts';
import { BlockGraph } from '../../../src/block/block-graph.ts';
import { ExportManager } from '../../../src/export/export-manager.ts';
import { ObjectRegistry } from '../../../src/object/object-registry.ts';
import { QmpError } from '../../../src/qapi/errors.ts';
import type { EventSink } from '../../../src/qapi/event-sink.ts';
import type { BlockExportOptions } from '../../../src/qapi/generated/types.ts';
import { allocate } from '../../../src/sys/memory.ts';
import { Poller } from '../../../src/sys/poller.ts';
import { idOf } from '../../helpers/events.ts';

const addr = { type: 'unix', path: `nbd-export-manager-${process.pid}`, abstract: true } as const;
const log: Logger = silentLogger;

let graph: BlockGraph;
let manager: ExportManager;
let poller: Poller;
let events: string[];

beforeEach(async () => {
  events = [];
  poller = new Poller();
  const sink: EventSink = { emit: (name, payload) => events.push(`${name} ${idOf(payload)}`) };
  const trace = createTrace();
  const objects = new ObjectRegistry();
  graph = new BlockGraph({ log, trace, poller, objects, events: sink, allocate });
  await objects.add({ 'qom-type': 'secret', id: 'sec0', data: 'x' });
  manager = new ExportManager({ graph, events: sink, log, trace, poller, objects });
  await graph.add({ driver: 'null-co', 'node-name': 'n', size: 65536 });
  await graph.add({ driver: 'null-co', 'node-name': 'fixed', size: 65536, 'read-only': true });
});

afterEach(async () => {
  await manager.close();
  await graph.close();
  poller.close();
});

async function messageOf(work: () => Promise<void>): Promise<string> {
  try {
    await work();
  } catch (error) {
    if (error instanceof QmpError) return error.desc;
    throw error;
  }
  return 'success';
}

const add = (options: Partial<Extract<BlockExportOptions, { type: 'nbd' }>>): Promise<string> =>
  messageOf(() => manager.add({ type: 'nbd', id: 'e', 'node-name': 'n', ...options }));

describe('ExportManager.add', () => {
  it('needs a server', async () => {
    expect(await add({})).toBe('NBD server not running');
  });

  it('lets the node go when it fails', async () => {
    expect(await add({ writable: true })).toBe('NBD server not running');
    await graph.remove('n');
  });

  it('checks the id, then the node, then the rest', async () => {
    await manager.startNbdServer({ addr });
    for (const id of ['', '1e', 'a b', 'ä', '-']) {
      expect(await add({ id, 'node-name': 'nope' })).toBe('Invalid block export id');
    }
    expect(await add({ 'node-name': 'nope' })).toBe("Cannot find device='' nor node-name='nope'");
    expect(await add({ 'node-name': 'fixed', writable: true })).toBe(
      'Cannot export read-only node as writable',
    );
    const long = 'ä'.repeat(2049);
    expect(await add({ name: long })).toBe(`export name '${long}' too long`);
    expect(await add({ description: long })).toBe(`description '${long}' too long`);
    expect(await add({ name: 'ä'.repeat(2048) })).toBe('success');
    expect(await add({})).toBe("Block export id 'e' is already in use");
    expect(await add({ id: 'e2' })).toBe('success');
    expect(await add({ id: 'e3', 'node-name': 'fixed', name: 'n' })).toBe(
      "NBD server already has export named 'n'",
    );
  });

  it('knows no dirty bitmap', async () => {
    await manager.startNbdServer({ addr });
    expect(await add({ bitmaps: ['b0'] })).toBe("Bitmap 'b0' is not found");
    expect(await add({ bitmaps: [{ node: 'n', name: 'b0' }] })).toBe("Dirty bitmap 'b0' not found");
    expect(await add({ bitmaps: [{ node: 'x', name: 'b0' }] })).toBe("Node 'x' not found");
    expect(await add({ bitmaps: [] })).toBe('success');
  });

  it('does not let its node be resized', async () => {
    await manager.startNbdServer({ addr });
    await add({});
    expect(() => graph.backend(graph.find(undefined, 'n'), { perm: 8, shared: 15 })).toThrow(
      QmpError,
    );
  });
});

describe('ExportManager.query', () => {
  it('lists the newest first', async () => {
    await manager.startNbdServer({ addr });
    await add({ id: 'first', name: '1' });
    await add({ id: 'second', name: '2', 'node-name': 'fixed' });
    expect(manager.query()).toEqual([
      { id: 'second', type: 'nbd', 'node-name': 'fixed', 'shutting-down': false },
      { id: 'first', type: 'nbd', 'node-name': 'n', 'shutting-down': false },
    ]);
  });
});

describe('nbd-server-add and nbd-server-remove', () => {
  beforeEach(() => manager.startNbdServer({ addr }));

  it('take the name for the id, and the device for the name', async () => {
    await manager.addLegacy({ device: 'n' });
    await manager.addLegacy({ device: 'n', name: 'other', writable: true });
    expect(manager.query().map(({ id }) => id)).toEqual(['other', 'n']);
    expect(await messageOf(() => manager.addLegacy({ device: 'n', name: '' }))).toBe(
      'Invalid block export id',
    );
    expect(await messageOf(() => manager.addLegacy({ device: 'nope' }))).toBe(
      "Cannot find device='nope' nor node-name='nope'",
    );
  });

  it('export a read-only node read-only, whatever was asked', async () => {
    await manager.addLegacy({ device: 'fixed', writable: true });
    await manager.removeLegacy('fixed');
    expect(events).toEqual(['BLOCK_EXPORT_DELETED fixed']);
  });

  it('know what is not there', async () => {
    expect(await messageOf(() => manager.removeLegacy('nope'))).toBe("Export 'nope' is not found");
    expect(await messageOf(() => manager.remove('nope'))).toBe("Export 'nope' is not found");
  });
});

describe('ExportManager.startNbdServer', () => {
  it('starts one, and looks at nothing else when there is one', async () => {
    await manager.startNbdServerByQmp({ addr: { type: 'unix', data: { ...addr } } });
    const message = await messageOf(() =>
      manager.startNbdServerByQmp({ addr: { type: 'fd', data: { str: 'foo' } } }),
    );
    expect(message).toBe('NBD server already running');
  });

  it('starts one of two asked for at once', async () => {
    const both = [addr, { type: 'unix', path: '/nonexistent/x' } as const].map((address) =>
      messageOf(() => manager.startNbdServer({ addr: address })),
    );
    expect(await Promise.all(both)).toEqual(['success', 'NBD server already running']);
  });

  it('refuses unknown TLS credentials and listens no more', async () => {
    for (const [id, message] of [
      ['nope', "No TLS credentials with id 'nope'"],
      ['sec0', "Object with id 'sec0' is not TLS credentials"],
    ] as const) {
      const start = (): Promise<void> => manager.startNbdServer({ addr, 'tls-creds': id });
      expect(await messageOf(start)).toBe(message);
    }
    expect(await messageOf(() => manager.startNbdServer({ addr, 'tls-authz': 'any' }))).toBe(
      'success',
    );
  });

  it('is possible again after a stop or a failure', async () => {
    const bad = { type: 'unix', path: '/nonexistent/x.sock' } as const;
    expect(await messageOf(() => manager.startNbdServer({ addr: bad }))).toBe(
      'Failed to bind socket to /nonexistent/x.sock: No such file or directory',
    );
    await manager.startNbdServer({ addr });
    await manager.stopNbdServer();
    expect(await messageOf(() => manager.stopNbdServer())).toBe('NBD server not running');
    await manager.startNbdServer({ addr });
  });
});

describe('ExportManager.close', () => {
  it('ends every export with its event, oldest first as in the reference', async () => {
    await manager.startNbdServer({ addr });
    await add({ id: 'first', name: '1' });
    await add({ id: 'second', name: '2' });
    await manager.close();
    expect(events).toEqual(['BLOCK_EXPORT_DELETED first', 'BLOCK_EXPORT_DELETED second']);
    expect(manager.query()).toEqual([]);
  });
});
