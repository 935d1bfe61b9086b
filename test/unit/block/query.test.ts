import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PERM_ALL, PERM_WRITE } from '../../../src/block/block-driver.ts';
import type { BlockGraph } from '../../../src/block/block-graph.ts';
import { blockDeviceInfo, nodeStats } from '../../../src/block/query.ts';
import { writeJson } from '../../../src/qapi/json-writer.ts';
import { allocate } from '../../../src/sys/memory.ts';
import { testGraph } from './graph-fixture.ts';

let folder = '';
let image = '';
let graph: BlockGraph;

/** The nodes that the recorded answers of the reference (7.2.22) tell of. */
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'block-query-'));
  image = join(folder, 'q.img');
  writeFileSync(image, '');
  truncateSync(image, 1000);
  graph = testGraph();
  await graph.add({
    driver: 'file',
    'node-name': 'f0',
    filename: image,
    'read-only': true,
    'detect-zeroes': 'on',
  });
  await graph.add({ driver: 'raw', 'node-name': 'r0', file: 'f0', offset: 512, 'read-only': true });
  await graph.add({ driver: 'raw', 'node-name': 'r1', file: 'f0', 'read-only': true });
  await graph.add({
    driver: 'null-co',
    'node-name': 'n1',
    size: 4096,
    'read-zeroes': true,
    'latency-ns': 5,
  });
  await graph.add({
    driver: 'null-aio',
    'node-name': 'n2',
    'latency-ns': 5,
    cache: { direct: true, 'no-flush': true },
    discard: 'unmap',
    'detect-zeroes': 'unmap',
  });
  await graph.add({
    driver: 'raw',
    'node-name': 'r3',
    file: { driver: 'raw', 'node-name': 'r2', file: 'n2' },
  });
});

afterAll(async () => {
  await graph.close();
  rmSync(folder, { recursive: true });
});

function recorded(name: string): string {
  const text = readFileSync(new URL(`recorded/${name}.txt`, import.meta.url), 'utf8');
  return text.trim().replaceAll('@IMAGE@', image);
}

describe('blockDeviceInfo', () => {
  it('tells what the reference tells, byte for byte, newest node first', () => {
    const answer = [...graph.nodes()].map((node) => blockDeviceInfo(node, { flat: false }));
    expect(writeJson({ return: answer })).toBe(recorded('query-named-block-nodes'));
  });

  it('cuts a json: filename that is too long, as the reference does', async () => {
    const long = join(folder, 'x'.repeat(200));
    writeFileSync(long, Buffer.alloc(1024));
    const detour = './'.repeat(Math.floor((4080 - long.length) / 2));
    const path = long.replace(`${folder}/`, `${folder}/${detour}`);
    const node = await graph.add({
      driver: 'raw',
      'node-name': 'long',
      offset: 512,
      file: { driver: 'file', filename: path },
    });
    const { file } = blockDeviceInfo(node, { flat: true });
    expect(file.length).toBe(4095);
    expect(file.endsWith('...')).toBe(true);
    await graph.remove('long');
  });
});

describe('nodeStats', () => {
  it('tells what the reference tells, byte for byte, oldest node first', () => {
    const answer = [...graph.nodes()].reverse().map(nodeStats);
    expect(writeJson({ return: answer })).toBe(recorded('query-blockstats'));
  });

  it('knows how far a node was written, of each node of a stack', async () => {
    const top = await graph.add({
      driver: 'raw',
      'node-name': 'w',
      offset: 512,
      file: { driver: 'null-co', 'node-name': 'wf' },
    });
    const backend = graph.backend(top, { perm: PERM_WRITE, shared: PERM_ALL });
    await backend.write(100, 24, allocate(4096), 0);
    const { stats, parent } = nodeStats(top);
    expect(stats.wr_highest_offset).toBe(124);
    expect(parent?.stats.wr_highest_offset).toBe(636);
    await backend.release();
    await graph.remove('w');
  });
});
