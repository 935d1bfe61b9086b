import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createTrace } from '../../../../src/base/trace.ts';
import { negotiate } from '../../../../src/export/nbd/handshake.ts';
import { Handshake, HandshakeError } from '../../../../src/export/nbd/negotiation.ts';

/** Feeds a stream to a handshake without exports: how it ended, what it sent, the longest single read it asked for. */
function run(stream: Buffer): { end: string; sent: Buffer; longest: number } {
  const sent: Buffer[] = [];
  const handshake = new Handshake({
    exports: { list: () => [], find: () => undefined },
    trace: createTrace(),
    tls: 'none',
    send: (bytes) => sent.push(bytes),
  });
  const steps = negotiate(handshake);
  let at = 0;
  let longest = 0;
  let end = 'wants more';
  try {
    let step = steps.next(Buffer.alloc(0));
    while (!step.done) {
      const { length } = step.value;
      longest = Math.max(longest, length);
      if (at + length > stream.length) break;
      at += length;
      step = steps.next(stream.subarray(at - length, at));
    }
    if (step.done) end = 'aborted';
  } catch (error) {
    if (!(error instanceof HandshakeError)) throw error;
    end = error.message;
  }
  return { end, sent: Buffer.concat(sent), longest };
}

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

const option = (number: number, data: Uint8Array, length = data.length): Buffer =>
  Buffer.concat([Buffer.from('IHAVEOPT'), u32(number), u32(length), data]);

const options = fc
  .tuple(fc.integer({ min: 0, max: 12 }), fc.uint8Array({ maxLength: 200 }))
  .map(([number, data]) => option(number, data));

describe('negotiate', () => {
  it('ends with nothing but a HandshakeError, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 500 }), (bytes) => {
        run(Buffer.from(bytes));
      }),
    );
  });

  it('ends with nothing but a HandshakeError, whatever data its options have', () => {
    fc.assert(
      fc.property(fc.array(options, { maxLength: 20 }), (list) => {
        run(Buffer.concat([u32(3), ...list]));
      }),
      { numRuns: 500 },
    );
  });

  it('never asks for more than 64 KiB at once, however long an option claims to be', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 12 }),
        fc.integer({ min: 0, max: 0xffff_ffff }),
        fc.uint8Array({ maxLength: 100 }),
        (number, length, data) => {
          const { longest } = run(Buffer.concat([u32(3), option(number, data, length)]));
          expect(longest).toBeLessThanOrEqual(64 * 1024);
        },
      ),
    );
  });

  it('receives what an unknown option brings before it answers', () => {
    const { sent } = run(Buffer.concat([u32(3), option(77, Buffer.alloc(1000), 1001)]));
    expect(sent).toHaveLength(0);
    const whole = run(Buffer.concat([u32(3), option(77, Buffer.alloc(1001))]));
    expect(whole.sent.toString('latin1', 20)).toBe('Unsupported option 77 (<unknown>)');
  });

  it('says which rule was broken', () => {
    expect(run(u32(0x80000003)).end).toBe('Unknown client flags 0x80000000 received');
    expect(run(Buffer.concat([u32(3), Buffer.alloc(16)])).end).toBe('Bad magic received');
    expect(run(Buffer.concat([u32(0), option(7, Buffer.alloc(0))])).end).toBe(
      'Unsupported option 7 (go)',
    );
    expect(run(Buffer.concat([u32(3), option(1, Buffer.from('x'))])).end).toBe('export not found');
  });

  it('ends in good order with NBD_OPT_ABORT', () => {
    const { end, sent } = run(Buffer.concat([u32(3), option(2, Buffer.alloc(0))]));
    expect(end).toBe('aborted');
    expect(sent.toString('hex')).toBe('0003e889045565a9000000020000000100000000');
  });
});
