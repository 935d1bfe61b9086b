import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BATCH_SIZE, BufferPool } from '../../../../src/export/nbd/buffer-pool.ts';
import { Output, type Region } from '../../../../src/export/nbd/output.ts';
import { WOULD_BLOCK } from '../../../../src/net/byte-channel.ts';
import { ioBufferOver } from '../../../../src/sys/memory.ts';
import { MemoryChannel } from './memory-channel.ts';

function makePool(): BufferPool {
  return new BufferPool({
    allocate: (length) => ioBufferOver(Buffer.alloc(length)),
    release() {},
  });
}

function put(output: Output, text: string): void {
  const at = output.reserve(text.length);
  output.buffer.bytes.write(text, at, 'latin1');
  output.commit(text.length);
}

function sentText(channel: MemoryChannel): string {
  return Buffer.concat(channel.sent).toString('latin1');
}

describe('Output', () => {
  it('sends replies in order, in one piece', () => {
    const channel = new MemoryChannel();
    const output = new Output(makePool());
    put(output, 'one');
    put(output, 'two');
    expect(output.flush(channel)).toBe(true);
    expect(channel.sent).toHaveLength(1);
    expect(sentText(channel)).toBe('onetwo');
    expect(output.length).toBe(0);
  });

  it('sends what is ready before a reply whose data come later', () => {
    const channel = new MemoryChannel();
    const output = new Output(makePool());
    put(output, 'a');
    const at = output.reserve(5);
    const region = output.defer(5);
    put(output, 'b');
    expect(output.flush(channel)).toBe(true);
    region.buffer.bytes.write('later', at, 'latin1');
    put(output, 'c');
    output.complete(region);
    expect(output.flush(channel)).toBe(true);
    expect(sentText(channel)).toBe('abclater');
  });

  it('sends replies that are in several places with one call', () => {
    const channel = new MemoryChannel();
    const calls: number[] = [];
    channel.sendParts = (parts, count, skip) => {
      calls.push(count);
      const bytes = Buffer.concat(
        parts
          .slice(0, count)
          .map(({ buffer, at, length }) => buffer.bytes.subarray(at, at + length)),
      );
      const taken = Math.min(channel.room, bytes.length - skip);
      if (taken === 0) return WOULD_BLOCK;
      channel.room -= taken;
      channel.sent.push(bytes.subarray(skip, skip + taken));
      return taken;
    };
    const output = new Output(makePool());
    const texts = ['one', 'two', 'three', 'four'];
    const regions = texts.map((text) => {
      const at = output.reserve(text.length);
      output.buffer.bytes.write(text, at, 'latin1');
      return output.defer(text.length);
    });
    for (const region of regions.toReversed()) output.complete(region);
    put(output, 'five');
    channel.room = 6;
    expect(output.flush(channel)).toBe(false);
    expect(output.length).toBe(13);
    channel.room = 3;
    expect(output.flush(channel)).toBe(false);
    channel.room = Infinity;
    expect(output.flush(channel)).toBe(true);
    expect(sentText(channel)).toBe('fourthreetwoonefive');
    expect(calls).toEqual([5, 4, 4, 3, 3]);
    expect(output.length).toBe(0);
    // The buffer begins anew.
    expect(output.reserve(1)).toBe(0);
  });

  it('sends replies whose data came in their order in one piece', () => {
    const channel = new MemoryChannel();
    const output = new Output(makePool());
    const regions = ['one', 'two', 'three'].map((text) => {
      const at = output.reserve(text.length);
      output.buffer.bytes.write(text, at, 'latin1');
      return output.defer(text.length);
    });
    const [one, two, three] = regions as [Region, Region, Region];
    output.complete(one);
    output.complete(two);
    channel.room = 4;
    expect(output.flush(channel)).toBe(false);
    output.complete(three);
    channel.room = Infinity;
    expect(output.flush(channel)).toBe(true);
    expect(channel.sent.map(String)).toEqual(['onet', 'wothree']);
  });

  it('goes on where the peer stopped taking', () => {
    const channel = new MemoryChannel();
    const output = new Output(makePool());
    put(output, 'half a');
    channel.room = 4;
    expect(output.flush(channel)).toBe(false);
    const region = output.defer(0);
    output.complete(region);
    put(output, ' reply');
    channel.room = Infinity;
    expect(output.flush(channel)).toBe(true);
    expect(sentText(channel)).toBe('half a reply');
  });

  it('begins data on a page boundary when asked to', () => {
    const output = new Output(makePool());
    put(output, 'x');
    const at = output.reserveAligned(28, 100_028);
    expect((at + 28) % 4096).toBe(0);
    output.commit(100_028);
    expect(output.length).toBe(100_029);
  });

  it('keeps every reply whole, whatever the order of events', () => {
    const action = fc.oneof(
      fc.record({ kind: fc.constant('put' as const), size: fc.integer({ min: 1, max: 100_000 }) }),
      fc.record({
        kind: fc.constant('defer' as const),
        size: fc.integer({ min: 1, max: 100_000 }),
      }),
      fc.record({ kind: fc.constant('complete' as const), size: fc.nat(20) }),
      fc.record({ kind: fc.constant('abandon' as const), size: fc.nat(20) }),
      fc.record({ kind: fc.constant('flush' as const), size: fc.nat(300_000) }),
      fc.record({ kind: fc.constant('idle' as const), size: fc.constant(0) }),
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        const channel = new MemoryChannel();
        const output = new Output(makePool());
        const deferred: { region: Region; tag: number }[] = [];
        const expected = new Map<number, number>();
        let tag = 0;
        // A reply: its tag and its length, then the tag in every byte.
        const fill = (region: Region, mark: number): void => {
          const { buffer, at, length } = region;
          buffer.view.setUint32(at, mark);
          buffer.view.setUint32(at + 4, length - 8);
          buffer.bytes.fill(mark & 0xff, at + 8, at + length);
        };
        for (const { kind, size } of actions) {
          if (kind === 'put') {
            const at = output.reserve(size + 8);
            fill({ buffer: output.buffer, at, length: size + 8 }, ++tag);
            output.commit(size + 8);
            expected.set(tag, size);
          } else if (kind === 'defer') {
            if (size > 65536) output.reserveAligned(8, size + 8);
            else output.reserve(size + 8);
            deferred.push({ region: output.defer(size + 8), tag: ++tag });
          } else if (kind === 'complete' && deferred.length > 0) {
            const [done] = deferred.splice(size % deferred.length, 1);
            if (done === undefined) continue;
            fill(done.region, done.tag);
            output.complete(done.region);
            expected.set(done.tag, done.region.length - 8);
          } else if (kind === 'abandon' && deferred.length > 0) {
            const [gone] = deferred.splice(size % deferred.length, 1);
            if (gone !== undefined) output.abandon(gone.region);
          } else if (kind === 'flush') {
            channel.room = size;
            output.flush(channel);
          } else if (kind === 'idle') {
            output.releaseIdle();
          }
        }
        channel.room = Infinity;
        output.flush(channel);
        const stream = Buffer.concat(channel.sent);
        let at = 0;
        while (at < stream.length) {
          const mark = stream.readUInt32BE(at);
          const length = stream.readUInt32BE(at + 4);
          if (expected.get(mark) !== length) throw new Error(`reply ${mark} is torn`);
          for (let place = at + 8; place < at + 8 + length; place++) {
            if (stream[place] !== (mark & 0xff)) throw new Error(`reply ${mark} is overwritten`);
          }
          expected.delete(mark);
          at += 8 + length;
        }
        expect(expected.size).toBe(0);
        expect(output.length).toBe(0);
      }),
      { numRuns: 60 },
    );
  });
});

describe('BufferPool', () => {
  it('gives a buffer out again, large enough, and to one user at a time', () => {
    const pool = makePool();
    const first = pool.take(100);
    const second = pool.take(100);
    expect(second).not.toBe(first);
    pool.give(first);
    expect(pool.take(BATCH_SIZE)).toBe(first);
    expect(pool.take(BATCH_SIZE + 1).bytes.length).toBeGreaterThan(BATCH_SIZE);
    pool.trim();
  });

  it('refuses a length that no request has', () => {
    expect(() => makePool().take(33 * 1024 * 1024)).toThrow(RangeError);
  });
});
