// The session with a peer that need not be a kernel: a socket in the place of /dev/fuse, so that anything can be said to it.

import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { errno } from '../../../../src/base/errno.ts';
import { IoError } from '../../../../src/base/errors.ts';
import { silentLogger } from '../../../../src/base/log.ts';
import { createTrace } from '../../../../src/base/trace.ts';
import { PERM_ALL, PERM_CONSISTENT_READ } from '../../../../src/block/block-driver.ts';
import type { BlockGraph } from '../../../../src/block/block-graph.ts';
import { TransferBuffers } from '../../../../src/export/fuse/buffers.ts';
import { fuseDevice } from '../../../../src/export/fuse/device.ts';
import { FuseFile } from '../../../../src/export/fuse/fuse-file.ts';
import {
  FUSE_FALLOCATE,
  FUSE_FORGET,
  FUSE_GETATTR,
  FUSE_INIT,
  FUSE_INTERRUPT,
  FUSE_LSEEK,
  FUSE_READ,
  FUSE_SETATTR,
  FUSE_WRITE,
} from '../../../../src/export/fuse/protocol.ts';
import { FuseSession } from '../../../../src/export/fuse/session.ts';
import { readDescriptor, writeDescriptor } from '../../../../src/sys/descriptor.ts';
import { closeFile } from '../../../../src/sys/file.ts';
import { libc } from '../../../../src/sys/libc.ts';
import { ioBufferOver } from '../../../../src/sys/memory.ts';
import { Poller, READABLE } from '../../../../src/sys/poller.ts';
import { WOULD_BLOCK } from '../../../../src/sys/socket.ts';
import { testGraph } from '../../block/graph-fixture.ts';

const SIZE = 65_536;
const AF_UNIX = 1;
/** SOCK_SEQPACKET, not blocking: what is written at once is read at once, as from /dev/fuse. */
const PACKETS = 5 | 0o4000;
const complaints: string[] = [];
const log = { ...silentLogger, error: (text: string) => void complaints.push(text) };

let poller: Poller;
let graph: BlockGraph;
let session: FuseSession | undefined;
let kernel: number;
/** What the session gets for the next requests in the place of them, in this order. */
let failures: number[];
/** Resolves when the session says that it is over. */
let gone: Promise<void>;

beforeEach(async () => {
  poller = new Poller();
  graph = testGraph(undefined, { log, poller });
  await graph.add({ driver: 'null-co', 'node-name': 'n', size: SIZE, 'read-zeroes': true });
  failures = [];
  await serve('n');
});

/** The session is about this node from now on. */
async function serve(nodeName: string): Promise<void> {
  if (session !== undefined) {
    await session.stop();
    closeFile(kernel);
  }
  const node = graph.find(undefined, nodeName);
  const perm = node.readOnly ? PERM_CONSISTENT_READ : PERM_ALL;
  const backend = graph.backend(node, { perm, shared: PERM_ALL });
  const file = new FuseFile({ backend, writable: true, growable: false, uid: 0, gid: 0 });
  const pair = Buffer.alloc(8);
  if (libc.socketpair(AF_UNIX, PACKETS, 0, pair) < 0) throw new Error('no sockets');
  kernel = pair.readInt32LE(4);
  const device = fuseDevice(pair.readInt32LE(0));
  let onGone = (): void => {};
  gone = new Promise((resolve) => {
    onGone = resolve;
  });
  session = new FuseSession({
    device: {
      ...device,
      read(address, room) {
        const received = device.read(address, room);
        const code = received === WOULD_BLOCK ? undefined : failures.shift();
        if (code !== undefined) throw new IoError(code, { syscall: 'read' });
        return received;
      },
    },
    id: 'e',
    file,
    buffers: new TransferBuffers(),
    poller,
    log,
    trace: createTrace(),
    onGone,
  });
}

afterEach(async () => {
  await session?.stop();
  session = undefined;
  closeFile(kernel);
  await graph.close();
  poller.close();
  complaints.length = 0;
});

const u32 = (...values: number[]): Buffer => {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) bytes.writeUInt32LE(value >>> 0, index * 4);
  return bytes;
};

/** A request as it should be, but for what is said otherwise. */
function request(
  opcode: number,
  args: Uint8Array = Buffer.alloc(0),
  { length = 40 + args.length, node = 1 }: { length?: number; node?: number } = {},
): Buffer {
  return Buffer.concat([u32(length, opcode, 77, 0, node, 0, 0, 0, 0, 0), args]);
}

interface Reply {
  readonly error: number;
  readonly unique: number;
  readonly body: Buffer;
}

/** What a request is answered with; undefined when the session has looked at it and says nothing. */
async function ask(bytes: Buffer): Promise<Reply | undefined> {
  // What follows is answered for sure, so silence shows.
  const answers = [await exchange(bytes)];
  if (answers[0]?.unique !== 77) return undefined;
  return answers[0];
}

async function exchange(bytes: Buffer): Promise<Reply> {
  const answered = readable();
  send(bytes);
  await answered;
  const buffer = ioBufferOver(Buffer.alloc(2 * 1024 * 1024));
  const received = readDescriptor(kernel, buffer.address, buffer.bytes.length);
  const reply = buffer.bytes.subarray(0, received);
  expect(reply.readUInt32LE(0)).toBe(received);
  return {
    error: Math.abs(reply.readInt32LE(4)),
    unique: reply.readUInt32LE(8),
    body: reply.subarray(16),
  };
}

/** Says something to the session, and waits for nothing. */
function send(bytes: Buffer): void {
  const { address } = ioBufferOver(Buffer.concat([bytes, Buffer.alloc(64)]));
  writeDescriptor(kernel, address, bytes.length);
}

/** The length of what the session has said next, WOULD_BLOCK, or 0 when it has closed. */
function heard(): number {
  const { address, bytes } = ioBufferOver(Buffer.alloc(8192));
  return readDescriptor(kernel, address, bytes.length);
}

/** Resolves when the session has said something. */
function readable(): Promise<void> {
  return new Promise((resolve) => {
    const watch = poller.watch(kernel, () => {
      watch.close();
      resolve();
    });
    watch.want(READABLE);
  });
}

/** Nobody serves any more, and nothing is left to be read. */
function expectEnd(): void {
  expect(heard()).toBe(0);
}

/** Enough turns of the event loop for whatever is going to happen by itself. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 10; turn++) await setImmediate();
}

interface SlowDisk {
  /** Reads that have begun, ever. */
  count(): number;
  /** Resolves when so many have. */
  begun(count: number): Promise<void>;
  /** Lets those end that have begun. */
  release(): void;
}

/** The session is about a disk from now on whose reads end when they are told to. */
async function serveSlowDisk(): Promise<SlowDisk> {
  let reads = 0;
  let held: (() => void)[] = [];
  let wanted = 0;
  let onBegun = (): void => {};
  const read = (into: Uint8Array): Promise<void> => {
    reads++;
    if (reads === wanted) onBegun();
    return new Promise((done) => held.push(() => done(void into.fill(7))));
  };
  await graph.addDisk('slow', { size: SIZE, read }, { readOnly: true });
  await serve('slow');
  return {
    count: () => reads,
    begun(count) {
      if (reads >= count) return Promise.resolve();
      wanted = count;
      return new Promise((resolve) => {
        onBegun = resolve;
      });
    },
    release() {
      for (const end of held) end();
      held = [];
    },
  };
}

const transfer = (offset: number, size: number): Buffer =>
  u32(0, 0, offset % 2 ** 32, Math.floor(offset / 2 ** 32), size, 0, 0, 0, 0, 0);

describe('FuseSession', () => {
  it('serves', async () => {
    expect(await ask(request(FUSE_READ, transfer(0, 4096)))).toMatchObject({ error: 0 });
    expect((await ask(request(FUSE_READ, transfer(SIZE - 10, 4096))))?.body.length).toBe(10);
    const written = await ask(
      request(FUSE_WRITE, Buffer.concat([transfer(0, 9), Buffer.alloc(9)])),
    );
    expect(written?.body.readUInt32LE(0)).toBe(9);
    expect((await ask(request(FUSE_GETATTR)))?.body.length).toBe(104);
    expect(complaints).toEqual([]);
  });

  it.each([
    ['a length that is too small', request(FUSE_GETATTR, u32(0), { length: 40 }), errno.EIO],
    ['a length that is too large', request(FUSE_GETATTR, u32(0), { length: 2 ** 31 }), errno.EIO],
    ['no length', request(FUSE_GETATTR, u32(0), { length: 0 }), errno.EIO],
    ['a request that nobody knows', request(9999), errno.ENOSYS],
    ['a request that has been given up', request(7), errno.ENOSYS],
    ['a request from the end of numbers', request(2 ** 32 - 1), errno.ENOSYS],
    ['a node that there is not', request(FUSE_READ, transfer(0, 1), { node: 2 }), errno.ESTALE],
    ['a read without arguments', request(FUSE_READ), errno.EIO],
    ['a read with half of its arguments', request(FUSE_READ, u32(0, 0, 0)), errno.EIO],
    ['a read of everything', request(FUSE_READ, transfer(0, 2 ** 32 - 1)), errno.EINVAL],
    ['a read of one byte too many', request(FUSE_READ, transfer(0, 2 ** 20 + 1)), errno.EINVAL],
    ['a write that says it has more', request(FUSE_WRITE, transfer(0, 4096)), errno.EIO],
    [
      'a write that says it has less',
      request(FUSE_WRITE, Buffer.concat([transfer(0, 1), u32(1)])),
      errno.EIO,
    ],
    [
      'a write beyond the end',
      request(FUSE_WRITE, Buffer.concat([transfer(2 ** 62, 4), u32(1)])),
      errno.EIO,
    ],
    ['a seek with an unknown whence', request(FUSE_LSEEK, u32(0, 0, 0, 0, 9, 0)), errno.EINVAL],
    ['a seek below zero', request(FUSE_LSEEK, u32(0, 0, -1, -1, 3, 0)), errno.ENXIO],
    ['an unknown fallocate', request(FUSE_FALLOCATE, u32(0, 0, 0, 0, 9, 0, 64, 0)), errno.ENOTSUP],
    [
      'a hole beyond everything',
      request(FUSE_FALLOCATE, u32(0, 0, -1, -1, -1, -1, 3, 0)),
      errno.EIO,
    ],
    ['attributes that there are not', request(FUSE_SETATTR, Buffer.alloc(88, 0xff)), errno.ENOTSUP],
    ['attributes cut short', request(FUSE_SETATTR, Buffer.alloc(87)), errno.EIO],
    ['a start without a version', request(FUSE_INIT, u32(7)), errno.EIO],
    ['a start of long ago', request(FUSE_INIT, u32(6, 0, 0, 0)), errno.EIO],
  ])('answers %s with an error, and goes on', async (_, bytes, code) => {
    expect(await ask(bytes)).toMatchObject({ error: code, unique: 77, body: Buffer.alloc(0) });
    expect(await ask(request(FUSE_READ, transfer(0, 4096)))).toMatchObject({ error: 0 });
  });

  it('reads nothing where there is nothing', async () => {
    for (const offset of [SIZE, SIZE + 1, 2 ** 40, 2 ** 63]) {
      const reply = await ask(request(FUSE_READ, transfer(offset, 4096)));
      expect(reply).toMatchObject({ error: 0, body: Buffer.alloc(0) });
    }
  });

  it('says nothing to what wants no answer, whatever it looks like', async () => {
    const silent = [
      request(FUSE_FORGET),
      request(FUSE_INTERRUPT, u32(1, 0)),
      request(FUSE_INTERRUPT),
      Buffer.from('x'),
      Buffer.alloc(39, 0xff),
    ];
    for (const bytes of silent) {
      send(bytes);
      expect(await ask(request(FUSE_GETATTR))).toMatchObject({ error: 0, unique: 77 });
    }
  });

  it('complains once of a peer that lies', async () => {
    for (let n = 0; n < 20; n++) await ask(request(FUSE_GETATTR, u32(0), { length: n }));
    expect(complaints).toHaveLength(1);
    expect(complaints[0]).toContain("FUSE export 'e': request length");
  });

  it('answers others while a request takes its time, and that one before it ends', async () => {
    const disk = await serveSlowDisk();
    send(request(FUSE_READ, transfer(0, 4096)));
    await disk.begun(1);
    // Whoever waits for it got a signal: as in any file system, that changes nothing.
    send(request(FUSE_INTERRUPT, u32(77, 0)));
    const { body } = await exchange(request(FUSE_GETATTR));
    expect(body).toHaveLength(104);
    let over = false;
    const stopped = session?.stop().then(() => (over = true));
    await turns();
    expect(over).toBe(false);
    disk.release();
    await stopped;
    const reply = ioBufferOver(Buffer.alloc(8192));
    expect(readDescriptor(kernel, reply.address, 8192)).toBe(16 + 4096);
    expect(reply.bytes.subarray(16, 16 + 4096).every((byte) => byte === 7)).toBe(true);
    expectEnd();
  });

  it('receives no more than 64 requests at once', async () => {
    const disk = await serveSlowDisk();
    for (let n = 0; n < 70; n++) send(request(FUSE_READ, transfer(0, 512)));
    await disk.begun(64);
    await turns();
    expect(disk.count()).toBe(64);
    disk.release();
    await disk.begun(70);
    disk.release();
  });

  it('receives nothing while the node is drained', async () => {
    session?.setDrained(true);
    send(request(FUSE_GETATTR));
    await turns();
    expect(heard()).toBe(WOULD_BLOCK);
    const answered = readable();
    session?.setDrained(false);
    await answered;
    expect(heard()).toBe(16 + 104);
  });

  it('takes the next request when one was withdrawn while it was handed over', async () => {
    failures = [errno.ENOENT, errno.ENOENT];
    send(request(FUSE_READ));
    send(request(FUSE_READ));
    expect(await exchange(request(FUSE_GETATTR))).toMatchObject({ error: 0 });
    expect(complaints).toEqual([]);
  });

  it.each(['ENODEV', 'ECONNABORTED'] as const)('ends in silence with %s', async (code) => {
    failures = [errno[code]];
    send(request(FUSE_GETATTR));
    await gone;
    expectEnd();
    expect(complaints).toEqual([]);
    await session?.stop();
  });

  it('ends when it cannot receive, so that nobody waits for it, and says why', async () => {
    failures = [errno.ENOMEM];
    send(request(FUSE_GETATTR));
    await gone;
    expectEnd();
    expect(complaints).toHaveLength(1);
    expect(complaints[0]).toContain('Cannot allocate memory');
  });

  it('keeps the descriptor for what is under way when the mount is gone', async () => {
    const disk = await serveSlowDisk();
    send(request(FUSE_READ, transfer(0, 512)));
    await disk.begun(1);
    failures = [errno.ENODEV];
    send(request(FUSE_GETATTR));
    await gone;
    expect(heard()).toBe(WOULD_BLOCK);
    disk.release();
    await session?.stop();
    expect(heard()).toBe(16 + 512);
    expectEnd();
  });
});
