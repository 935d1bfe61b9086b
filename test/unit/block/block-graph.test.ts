import { mkdtempSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type BlockDriver,
  PERM_ALL,
  PERM_CONSISTENT_READ,
  PERM_WRITE,
} from '../../../src/block/block-driver.ts';
import type { BlockGraph } from '../../../src/block/block-graph.ts';
import { filenameOf } from '../../../src/block/filename.ts';
import type {
  BlockdevCreateOptions,
  BlockdevOptions,
  BlockdevRef,
} from '../../../src/qapi/generated/types.ts';
import { testGraph } from './graph-fixture.ts';
import { ioError, later, memoryDisk } from './memory-driver.ts';

let folder = '';
let image = '';
let graph: BlockGraph;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'block-graph-'));
  image = join(folder, 'a.img');
  writeFileSync(image, '');
  truncateSync(image, 65536);
  graph = testGraph();
});

afterEach(async () => {
  await graph.close();
  rmSync(folder, { recursive: true });
});

/** The message of the error, or undefined. */
async function messageOf(work: () => unknown): Promise<string | undefined> {
  try {
    await work();
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  return undefined;
}

const names = (): string[] => [...graph.nodes()].map((node) => node.nodeName);

describe('BlockGraph.imageMaker', () => {
  it('refuses drivers whose images cannot be made', () => {
    for (const driver of ['raw', 'null-co', 'host_device'] as const) {
      expect(() => graph.imageMaker({ driver })).toThrow('Driver does not support blockdev-create');
    }
  });

  it('makes a file', async () => {
    await graph.imageMaker({ driver: 'file', filename: image, size: 4096 })();
    expect(statSync(image).size).toBe(4096);
  });

  it('lends a driver a handle on a node, new or there already', async () => {
    const seen: string[] = [];
    const driver: BlockDriver = {
      ...memoryDisk({ size: 512 }).driver,
      async create(options, context) {
        const { file } = options as { file: BlockdevRef };
        const pair = { perm: PERM_WRITE, shared: PERM_CONSISTENT_READ };
        const backend = await context.openBackend(file, pair);
        seen.push(...names());
        expect(() => context.openBackend(backend.node.nodeName, pair)).toThrow('conflict');
        await backend.release();
      },
    };
    graph = testGraph(driver);
    const make = (file: BlockdevRef) => {
      const options: object = { driver: 'null-aio', file };
      return graph.imageMaker(options as BlockdevCreateOptions)();
    };
    await make({ driver: 'null-co', 'node-name': 'made' });
    expect(seen).toEqual(['made']);
    expect(names()).toEqual([]);
    await graph.add({ driver: 'null-co', 'node-name': 'there' });
    await make('there');
    expect(names()).toEqual(['there']);
    await expect(make('nowhere')).rejects.toThrow("Cannot find device='nowhere' nor node-name");
  });
});

describe('BlockGraph.add', () => {
  const nullCo: BlockdevOptions = { driver: 'null-co' };

  it('refuses node names as the reference does', async () => {
    const add = (name?: string) =>
      messageOf(() => graph.add(name === undefined ? nullCo : { ...nullCo, 'node-name': name }));
    expect(await add()).toBe("'node-name' must be specified for the root node");
    expect(await add('')).toBe("Invalid node-name: ''");
    expect(await add('1x')).toBe("Invalid node-name: '1x'");
    expect(await add('#block000')).toBe("Invalid node-name: '#block000'");
    expect(await add('a b')).toBe("Invalid node-name: 'a b'");
    expect(await add('a'.repeat(32))).toBe('Node name too long');
    expect(await add('a'.repeat(31))).toBeUndefined();
    expect(await add('x.-_9')).toBeUndefined();
    expect(await add('x.-_9')).toBe("Duplicate nodes with node-name='x.-_9'");
  });

  it.each(['nope', 'constructor', '__proto__'])('knows no driver %s', async (driver) => {
    const options = { driver, 'node-name': 'n' } as unknown as BlockdevOptions;
    expect(await messageOf(() => graph.add(options))).toBe(`Unknown driver '${driver}'`);
    await graph.change(async (access) => expect(access.driver(driver)).toBeUndefined());
  });

  it('names children without a name by a counter and two random digits', async () => {
    await graph.add({ driver: 'raw', 'node-name': 'r', file: nullCo });
    await graph.add({ driver: 'raw', 'node-name': 's', file: nullCo });
    expect(names()).toEqual(['s', expect.any(String), 'r', expect.any(String)]);
    const [, second, , first] = names();
    expect(first).toMatch(/^#block0\d\d$/);
    expect(second).toMatch(/^#block1\d\d$/);
  });

  it('opens the file of a format before it looks at the format itself', async () => {
    expect(
      await messageOf(() => graph.add({ driver: 'raw', 'node-name': '1x', file: 'nope' })),
    ).toBe("Cannot find device='nope' nor node-name='nope'");
    expect(
      await messageOf(() => graph.add({ driver: 'raw', 'node-name': 'self', file: 'self' })),
    ).toBe("Cannot find device='self' nor node-name='self'");
  });

  it('leaves nothing behind when it fails', async () => {
    const failing: BlockdevOptions[] = [
      { driver: 'raw', 'node-name': 'r', size: 5, file: { driver: 'file', filename: image } },
      { driver: 'raw', 'node-name': '1r', file: { driver: 'file', filename: image } },
      {
        driver: 'raw',
        'node-name': 'r',
        'detect-zeroes': 'unmap',
        file: { driver: 'raw', file: { driver: 'file', filename: image } },
      },
    ];
    const before = readdirSync('/proc/self/fd').length;
    for (const options of failing) {
      expect(await messageOf(() => graph.add(options))).toBeDefined();
      expect(names()).toEqual([]);
    }
    expect(readdirSync('/proc/self/fd').length).toBe(before);
  });

  it('keeps a node that others use when a new parent of it fails', async () => {
    await graph.add({ driver: 'file', 'node-name': 'f', filename: image });
    const bad: BlockdevOptions = { driver: 'raw', 'node-name': 'r', size: 5, file: 'f' };
    expect(await messageOf(() => graph.add(bad))).toBe('Specified size is not multiple of 512');
    expect(names()).toEqual(['f']);
    expect(graph.find(undefined, 'f').parents).toEqual([]);
  });

  it('says which file could not be opened', async () => {
    const missing = join(folder, 'missing');
    expect(
      await messageOf(() =>
        graph.add({
          driver: 'raw',
          'node-name': 'r',
          file: { driver: 'file', filename: missing },
        }),
      ),
    ).toBe(`Could not open '${missing}': No such file or directory`);
    expect(
      await messageOf(() => graph.add({ driver: 'file', 'node-name': 'f', filename: '' })),
    ).toBe("The 'file' block driver requires a file name");
  });

  it('checks force-share and detect-zeroes', async () => {
    expect(
      await messageOf(() => graph.add({ ...nullCo, 'node-name': 'n', 'force-share': true })),
    ).toBe('force-share=on can only be used with read-only images');
    expect(
      await messageOf(() => graph.add({ ...nullCo, 'node-name': 'n', 'detect-zeroes': 'unmap' })),
    ).toBe(
      'setting detect-zeroes to unmap is not allowed without setting discard operation to unmap',
    );
  });

  it('refuses an empty cache object, which the reference does not understand', async () => {
    expect(await messageOf(() => graph.add({ ...nullCo, 'node-name': 'n', cache: {} }))).toBe(
      "Block protocol 'null-co' doesn't support the option 'cache'",
    );
    expect(
      await messageOf(() =>
        graph.add({ driver: 'raw', 'node-name': 'r', file: nullCo, cache: {} }),
      ),
    ).toBe("Block format 'raw' does not support the option 'cache'");
    expect(names()).toEqual([]);
  });

  it('hands read-only, auto-read-only, force-share and cache down, and turns discard on below', async () => {
    await graph.add({
      driver: 'raw',
      'node-name': 'top',
      'read-only': true,
      'auto-read-only': true,
      'force-share': true,
      cache: { direct: false, 'no-flush': true },
      file: {
        driver: 'raw',
        'node-name': 'middle',
        cache: { 'no-flush': false },
        file: { driver: 'file', 'node-name': 'bottom', filename: image, discard: 'ignore' },
      },
    });
    const look = (name: string) => {
      const { readOnly, autoReadOnly, forceShare, cacheNoFlush, unmap } = graph.find(
        undefined,
        name,
      );
      return { readOnly, autoReadOnly, forceShare, cacheNoFlush, unmap };
    };
    const all = { readOnly: true, autoReadOnly: true, forceShare: true };
    expect(look('top')).toEqual({ ...all, cacheNoFlush: true, unmap: false });
    expect(look('middle')).toEqual({ ...all, cacheNoFlush: false, unmap: true });
    expect(look('bottom')).toEqual({ ...all, cacheNoFlush: false, unmap: false });
  });
});

describe('BlockGraph.remove', () => {
  it('refuses with the reference texts, and takes implicit children along', async () => {
    await graph.add({ driver: 'file', 'node-name': 'f', filename: image });
    await graph.add({ driver: 'raw', 'node-name': 'r', file: 'f' });
    await graph.add({ driver: 'raw', 'node-name': 'top', file: { driver: 'raw', file: 'r' } });
    const implicit = names()[1] ?? '';
    const del = (name: string) => messageOf(() => graph.remove(name));
    expect(await del('nope')).toBe("Failed to find node with node-name='nope'");
    expect(await del('f')).toBe('Block device f is in use');
    expect(await del(implicit)).toBe(`Node ${implicit} is not owned by the monitor`);
    const backend = graph.backend(graph.find(undefined, 'top'), {
      perm: PERM_CONSISTENT_READ,
      shared: PERM_ALL,
    });
    expect(await del('top')).toBe('Node top is in use');
    await backend.release();
    expect(await del('top')).toBeUndefined();
    expect(names()).toEqual(['r', 'f']);
    expect(await del('r')).toBeUndefined();
    expect(await del('f')).toBeUndefined();
    expect(names()).toEqual([]);
  });

  it('flushes what was written, then closes; a failing flush does not keep the node', async () => {
    const disk = memoryDisk({ size: 4096 });
    graph = testGraph(disk.driver);
    await graph.add({ driver: 'null-aio', 'node-name': 'm' });
    graph.find(undefined, 'm').writeGeneration = 1;
    disk.behave = (call) => (call.operation === 'flush' ? ioError('EIO') : undefined);
    await graph.remove('m');
    expect(disk.calls.map((call) => call.operation)).toEqual(['flush', 'close']);
    expect(names()).toEqual([]);
  });

  it('hides a node from the moment it begins to close', async () => {
    const disk = memoryDisk({ size: 4096 });
    graph = testGraph(disk.driver);
    await graph.add({ driver: 'null-aio', 'node-name': 'm' });
    disk.behave = () => later(10);
    const gone = graph.remove('m');
    await later(3);
    expect(await messageOf(() => graph.find(undefined, 'm'))).toBe(
      "Cannot find device='' nor node-name='m'",
    );
    // The name is free again once it is gone, which adding waits for.
    await graph.add({ driver: 'null-aio', 'node-name': 'm' });
    await gone;
  });
});

describe('BlockGraph.find', () => {
  it('knows no devices', async () => {
    await graph.add({ driver: 'null-co', 'node-name': 'n' });
    expect(graph.find('whatever', 'n').nodeName).toBe('n');
    expect(await messageOf(() => graph.find('n', undefined))).toBe(
      "Cannot find device='n' nor node-name=''",
    );
  });
});

describe('a node that is opening', () => {
  it("is nobody else's before it is open, but knows itself", async () => {
    let opened = (): void => {};
    const { driver } = memoryDisk({ size: 4096 });
    graph = testGraph({
      ...driver,
      open: (node, options, context) =>
        new Promise((resolve) => {
          opened = () => resolve(driver.open(node, options, context));
        }),
    });
    const adding = graph.add({ driver: 'null-aio', 'node-name': 'm' });
    await later(1);
    const missing = "Cannot find device='' nor node-name='m'";
    expect(await messageOf(() => graph.find(undefined, 'm'))).toBe(missing);
    opened();
    await adding;
    expect(graph.find(undefined, 'm').phase).toBe('open');
    expect(
      await messageOf(() =>
        graph.add({
          driver: 'blkverify',
          'node-name': 'v',
          test: { driver: 'raw', file: 'v' },
          raw: 'm',
        }),
      ),
    ).toMatch(/^Making '#block\d+' a test child of 'v' would create a cycle$/);
  });
});

describe('BlockGraph.close', () => {
  it('closes parents before their children, whatever was added first', async () => {
    await graph.add({ driver: 'file', 'node-name': 'f', filename: image });
    await graph.add({ driver: 'raw', 'node-name': 'r', file: 'f' });
    await graph.close();
    expect(names()).toEqual([]);
  });
});

describe('BlockBackend.onResize', () => {
  it('hears of a longer file through raw', async () => {
    await graph.add({ driver: 'file', 'node-name': 'f', filename: image });
    const raw = await graph.add({ driver: 'raw', 'node-name': 'r', file: 'f' });
    const backend = graph.backend(raw, { perm: PERM_CONSISTENT_READ, shared: PERM_ALL });
    let heard = 0;
    backend.onResize = () => heard++;
    const resizer = graph.backend(raw, { perm: PERM_ALL, shared: PERM_ALL });
    await resizer.truncate(131072, { exact: false, prealloc: 'off', flags: 0 });
    expect(heard).toBeGreaterThan(0);
    expect(backend.length).toBe(131072);
    await resizer.release();
    await backend.release();
  });
});

describe('auto-read-only', () => {
  it('lets a node on a file that cannot be written be opened, and refuses the writer', async () => {
    const node = await graph.add({
      driver: 'file',
      'node-name': 'f',
      filename: image,
      'read-only': true,
    });
    expect(await messageOf(() => graph.backend(node, { perm: PERM_WRITE, shared: PERM_ALL }))).toBe(
      'Block node is read-only',
    );
    expect(filenameOf(node)).toBe(image);
  });
});
