// Data of large requests that stay in the kernel: a server sends them in pieces of all kinds, or fails to, and whoever reads gets
// them in a pipe or, when that is not possible, in memory; what is written comes out of a pipe, or goes to memory first.

import { describe, expect, it, onTestFinished } from 'vitest';
import type { DataPipe, PipeSource } from '../../../../../src/base/data-pipe.ts';
import type { BlockNode } from '../../../../../src/block/block-node.ts';
import { promised } from '../../../../../src/block/completion.ts';
import {
  startRead,
  startWrite,
  writesFromPipe,
  writeZeroesAlone,
} from '../../../../../src/block/io.ts';
import { allocate } from '../../../../../src/sys/memory.ts';
import { KernelPipe } from '../../../../../src/sys/pipe.ts';
import {
  clientOf,
  DISC,
  READ,
  type Script,
  type ServedConnection,
  WRITE,
} from './scripted-server.ts';
import { chunk, dataAt, errorData, extendedChunk, holeAt, simple } from './server-bytes.ts';

const SIZE = 1 << 20;
const LENGTH = 256 * 1024;
const HOLE = 2;
const ERROR = 0x8001;
/** What a source puts in front of the data. */
const HEADER = Buffer.from('what stands in front of them');
const AT = 4096;

const disk = Buffer.from(Array.from({ length: SIZE / 4 }, (_, at) => at).flatMap(le32));

function le32(value: number): number[] {
  return [value & 255, (value >> 8) & 255, (value >> 16) & 255, value >>> 24];
}

type Headers = NonNullable<Script['headers']>;

interface Asked {
  readonly cookie: Buffer;
  readonly offset: number;
  readonly length: number;
}

function whole(headers: Headers, { cookie, offset, length }: Asked): Buffer {
  const data = disk.subarray(offset, offset + length);
  if (headers === 'simple') return simple(cookie, 0, data);
  const terms = { type: 1, data: dataAt(offset, data) };
  return headers === 'structured' ? chunk(cookie, terms) : extendedChunk(cookie, offset, terms);
}

/** A server that answers reads so. */
function answering(answer: (request: Asked, to: ServedConnection) => void): Script {
  return {
    size: SIZE,
    answer: (request, to) => {
      if (request.type === READ) answer(request, to);
      else if (request.type !== DISC) to.send(simple(request.cookie, 0));
    },
  };
}

/** Sends bytes in pieces of these lengths, over and over, each in a turn of its own. */
function inPieces(to: ServedConnection, bytes: Buffer, lengths: readonly number[]): void {
  let done = 0;
  const next = (at: number): void => {
    const end = done + (lengths[at % lengths.length] as number);
    to.send(bytes.subarray(done, end));
    done = end;
    if (done < bytes.length) setImmediate(() => next(at + 1));
  };
  next(0);
}

interface Outcome {
  readonly data: Buffer;
  /** Bytes that were in a pipe in the end. */
  readonly piped: number;
  /** A pipe was asked for. */
  readonly asked: boolean;
}

/** Reads with pipes of a capacity; 0 for none. */
async function readWith(
  node: BlockNode,
  { offset = 0, length = LENGTH, capacity = 1 << 20 } = {},
): Promise<Outcome> {
  const buffer = allocate(AT + length);
  HEADER.copy(buffer.bytes, AT - HEADER.length);
  let pipe: KernelPipe | undefined;
  let asked = false;
  const source: PipeSource = {
    takePipe(done): DataPipe | undefined {
      expect(asked).toBe(false);
      asked = true;
      if (capacity === 0) return undefined;
      pipe = new KernelPipe(capacity, () => {});
      if (!pipe.put(buffer, AT - HEADER.length, HEADER.length + done)) throw new Error('No room');
      return pipe;
    },
  };
  onTestFinished(() => pipe?.close());
  await promised((completion) => startRead(node, offset, length, buffer, AT, completion, source));
  const piped = pipe?.length ?? 0;
  if (piped > 0) {
    buffer.bytes.fill(0xee, AT + length - piped);
    pipe?.empty(buffer, AT + length - piped);
  }
  expect(buffer.bytes.subarray(AT - HEADER.length, AT)).toEqual(HEADER);
  return { data: buffer.bytes.subarray(AT), piped, asked };
}

function expectDisk({ data }: Outcome, offset = 0): void {
  expect(data.equals(disk.subarray(offset, offset + data.length))).toBe(true);
}

describe('a large read with a pipe', () => {
  for (const headers of ['simple', 'structured', 'extended'] as const) {
    it(`has all of its data there (${headers} replies)`, async () => {
      const answer = (request: Asked, to: ServedConnection): void =>
        to.send(whole(headers, request));
      const { node } = await clientOf({ ...answering(answer), headers });
      for (const offset of [0, 4096, 512]) {
        const outcome = await readWith(node, { offset });
        expectDisk(outcome, offset);
        expect(outcome.piped).toBe(HEADER.length + LENGTH);
      }
    });
  }

  // In the last of them the pieces are more than a pipe takes, and in others the last piece is a small one.
  const pieces = [
    { lengths: [1, 27, 100_000], isPiped: true },
    { lengths: [20, 8, 20_000], isPiped: true },
    { lengths: [250_000, 1, 10_000, 17], isPiped: true },
    { lengths: [LENGTH], isPiped: true },
    { lengths: [28], isPiped: false },
  ];
  for (const { lengths, isPiped } of pieces) {
    it(`has them in order when they come in pieces of ${lengths.join(', ')} bytes`, async () => {
      const { node } = await clientOf(
        answering((request, to) => inPieces(to, whole('structured', request), lengths)),
      );
      const outcome = await readWith(node, { offset: 512 });
      expectDisk(outcome, 512);
      expect(outcome.piped).toBe(isPiped ? HEADER.length + LENGTH : 0);
    });
  }

  it('has them in memory when they do not fit into the pipe, and the next ones without asking', async () => {
    const { node } = await clientOf(
      answering((request, to) => inPieces(to, whole('structured', request), [60_000, 11])),
    );
    const outcome = await readWith(node, { capacity: 4096 });
    expectDisk(outcome);
    expect(outcome).toMatchObject({ piped: 0, asked: true });
    let without = 0;
    for (let asked = false; !asked; without++) {
      const next = await readWith(node, { length: 65_536 });
      expectDisk(next);
      ({ asked } = next);
    }
    expect(without).toBeGreaterThan(10);
  });

  it('has them in memory when there is no pipe', async () => {
    const { node } = await clientOf(
      answering((request, to) => to.send(whole('structured', request))),
    );
    const outcome = await readWith(node, { capacity: 0 });
    expectDisk(outcome);
    expect(outcome.asked).toBe(true);
  });

  it('has them in memory when they come in several chunks', async () => {
    const { node } = await clientOf(
      answering(({ cookie, offset, length }, to) => {
        const half = length / 2;
        const part = (at: number): Buffer => disk.subarray(at, at + half);
        to.send(chunk(cookie, { type: 1, done: false, data: dataAt(offset + half, part(half)) }));
        to.send(chunk(cookie, { type: 1, data: dataAt(offset, part(0)) }));
      }),
    );
    const outcome = await readWith(node);
    expectDisk(outcome);
    expect(outcome.asked).toBe(false);
  });

  it('fails by an error behind the data, and those after it do not', async () => {
    let count = 0;
    const { node } = await clientOf(
      answering((request, to) => {
        const { cookie, offset, length } = request;
        if (count++ > 0) {
          to.send(whole('structured', request));
          return;
        }
        const data = dataAt(offset, disk.subarray(offset, offset + length));
        to.send(chunk(cookie, { type: 1, done: false, data }));
        to.send(chunk(cookie, { type: ERROR, data: errorData(5, 'late') }));
      }),
    );
    await expect(readWith(node)).rejects.toThrow('EIO');
    expectDisk(await readWith(node));
  });

  it('ends with the connection when data come twice', async () => {
    const { node, logged } = await clientOf(
      answering((request, to) => {
        const { cookie, offset } = request;
        const data = dataAt(offset, disk.subarray(offset, offset + LENGTH));
        to.send(chunk(cookie, { type: 1, done: false, data }));
        to.send(chunk(cookie, { type: HOLE, data: holeAt(offset, 512) }));
      }),
    );
    await expect(readWith(node)).rejects.toThrow('EINVAL');
    expect(logged.join()).toContain('overlap');
  });

  it('fails when the server dies amid the data', async () => {
    const { node } = await clientOf(
      answering((request, to) => to.hangUp(whole('structured', request).subarray(0, 150_000))),
    );
    await expect(readWith(node)).rejects.toThrow('EIO');
  });

  it('begins anew when the server dies amid the data and comes back', async () => {
    let count = 0;
    const { node } = await clientOf(
      answering((request, to) => {
        const reply = whole('structured', request);
        if (count++ === 0) to.hangUp(reply.subarray(0, 150_000));
        else to.send(reply);
      }),
      { 'reconnect-delay': 60 },
    );
    const outcome = await readWith(node);
    expectDisk(outcome);
    expect(count).toBe(2);
  });
});

/** A server that keeps what is written; its first answer to a write may be another. */
function keeping(written: Buffer[], first?: (to: ServedConnection) => void): Script {
  let isFirst = true;
  return {
    size: SIZE,
    answer: ({ type, cookie, data }, to) => {
      if (type === DISC) return;
      if (isFirst && first !== undefined) first(to);
      else {
        if (type === WRITE) written.push(Buffer.from(data));
        to.send(simple(cookie, 0));
      }
      isFirst = false;
    },
  };
}

/** Writes the disk's first bytes out of a pipe: whether it was passed on as it was. */
async function writeFrom(node: BlockNode, more: Buffer = Buffer.alloc(0)): Promise<boolean> {
  const buffer = allocate(AT + LENGTH);
  const pipe = new KernelPipe(1 << 20, () => {});
  onTestFinished(() => pipe.close());
  const bytes = allocate(LENGTH + more.length);
  Buffer.concat([disk.subarray(0, LENGTH), more]).copy(bytes.bytes);
  expect(pipe.put(bytes, 0, bytes.bytes.length)).toBe(true);
  await promised((completion) => startWrite(node, 0, LENGTH, buffer, AT, 0, completion, pipe));
  expect(pipe.length).toBe(0);
  return buffer.bytes.every((byte) => byte === 0);
}

describe('a large write with a pipe', () => {
  for (const headers of ['simple', 'structured'] as const) {
    it(`has its data sent from there (${headers} replies)`, async () => {
      const written: Buffer[] = [];
      const { node } = await clientOf({ ...keeping(written), headers });
      expect(writesFromPipe(node)).toBe(true);
      for (let round = 1; round <= 3; round++) {
        expect(await writeFrom(node)).toBe(true);
        expect(written).toHaveLength(round);
        expect(written.at(-1)?.equals(disk.subarray(0, LENGTH))).toBe(true);
      }
    });
  }

  it('has its data in memory, and is made again, where it may be', async () => {
    const written: Buffer[] = [];
    const script = keeping(written, (to) => to.hangUp());
    const { node, server } = await clientOf(script, { 'reconnect-delay': 60 });
    expect(writesFromPipe(node)).toBe(false);
    expect(await writeFrom(node)).toBe(false);
    expect(server.requests).toHaveLength(2);
    expect(written[0]?.equals(disk.subarray(0, LENGTH))).toBe(true);
  });

  it('has its data in memory for a node that looks for zeroes', async () => {
    const written: Buffer[] = [];
    const { node } = await clientOf(keeping(written), { 'detect-zeroes': 'on' });
    expect(writesFromPipe(node)).toBe(false);
    expect(await writeFrom(node)).toBe(false);
    expect(written[0]?.equals(disk.subarray(0, LENGTH))).toBe(true);
  });

  it('waits in memory for a request that it overlaps with', async () => {
    const written: Buffer[] = [];
    const { node } = await clientOf(keeping(written));
    const alone = writeZeroesAlone(node, 0, SIZE);
    expect(await writeFrom(node)).toBe(false);
    await alone;
    expect(written[0]?.equals(disk.subarray(0, LENGTH))).toBe(true);
  });

  it('fails when the server dies, and all those after it until there is another', async () => {
    const { node, server } = await clientOf(keeping([], () => void server.stop()));
    await expect(writeFrom(node)).rejects.toThrow('EIO');
    await expect(writeFrom(node)).rejects.toThrow('EIO');
    expect(writesFromPipe(node)).toBe(false);
  });

  it('is refused when something else is in the pipe, too', async () => {
    const { node, server } = await clientOf(keeping([]));
    await expect(writeFrom(node, Buffer.from('more'))).rejects.toThrow('from a pipe');
    expect(server.requests).toHaveLength(0);
  });
});
