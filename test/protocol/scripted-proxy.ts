// An export whose disk a scripted NBD server has, and what tests of large requests to it need.

import { readdirSync, readlinkSync } from 'node:fs';
import { onTestFinished } from 'vitest';
import type { BlockdevOptions } from '../../src/qapi/generated/types.ts';
import {
  DISC,
  optionsFor,
  READ,
  type Script,
  type ScriptedServer,
  type SeenRequest,
  startServer,
  WRITE,
} from '../unit/block/drivers/nbd/scripted-server.ts';
import { chunk, dataAt, simple } from '../unit/block/drivers/nbd/server-bytes.ts';
import { type NbdTestServer, startNbdTestServer } from './nbd-test-server.ts';
import type { NbdWireClient } from './nbd-wire-client.ts';

/** Bytes of the disk, and of a request whose data pass through a pipe. */
export const SIZE = 4 << 20;
export const LENGTH = 256 * 1024;
export const NBD_EIO = 5;

export interface ScriptedProxy {
  /** A server behind the proxy, with no hole on its disk, and `more` nodes on top of its node `n`; the last is exported. */
  upstream(
    script: Script,
    options?: object,
    more?: readonly BlockdevOptions[],
  ): Promise<ScriptedServer>;
  /** A client of the proxy that may send requests. */
  ready(): Promise<NbdWireClient>;
  /** Resolves when the proxy has no clients any more, and takes no others. */
  stop(): Promise<void>;
  readonly graph: NbdTestServer['graph'];
  readonly log: readonly string[];
}

/** It is closed at the end of the test. */
export async function startProxy(): Promise<ScriptedProxy> {
  const proxy = await startNbdTestServer();
  onTestFinished(() => proxy.close());
  return {
    graph: proxy.graph,
    log: proxy.log,
    async upstream(script, options = {}, more = []) {
      const server = await startServer({ size: SIZE, hasContext: false, ...script });
      const nodes = [optionsFor(server, options), ...more];
      for (const node of nodes) await proxy.graph.add(node);
      const name = nodes.at(-1)?.['node-name'] as string;
      const terms = { id: 'proxy', 'node-name': name, name: 'proxy', writable: true } as const;
      await proxy.exports.add({ type: 'nbd', ...terms });
      return server;
    },
    ready: () => proxy.ready({ name: 'proxy' }),
    stop: () => proxy.exports.stopNbdServer(),
  };
}

export function freshDisk(): Buffer {
  const disk = Buffer.alloc(SIZE);
  for (let at = 0; at < SIZE; at += 4) disk.writeUInt32LE(at, at);
  return disk;
}

/** The data of a read with the header of their chunk; what is right for everything else. */
export function answerOf(
  disk: Buffer,
  { cookie, type, offset, length, data }: SeenRequest,
): Buffer {
  if (type === WRITE) data.copy(disk, offset);
  if (type !== READ) return simple(cookie, 0);
  return chunk(cookie, { type: 1, data: dataAt(offset, disk.subarray(offset, offset + length)) });
}

export function serving(disk: Buffer): Script {
  return {
    answer: (request, to) => {
      if (request.type !== DISC) to.send(answerOf(disk, request));
    },
  };
}

/** Ends of pipes that this process has. */
export function openPipes(): number {
  return readdirSync('/proc/self/fd').filter((fd) => linkOf(fd).startsWith('pipe:')).length;
}

// The descriptor that the directory is read with is gone by now.
function linkOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return '';
  }
}
