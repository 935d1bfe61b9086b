import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Request } from '../conformance/case.ts';
import { encodeRequest, NbdPeer } from '../conformance/nbd-peer.ts';
import {
  FUA,
  goPayload,
  metaPayload,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_OPT_GO,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STRUCTURED_REPLY,
  NO_HOLE,
  u32,
} from '../conformance/wire-steps.ts';
import { checkFor, corpus, keep, mutated, numbersFrom } from './budget.ts';
import { Victim } from './victim.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

const optionBytes = (number: number, payload: Uint8Array): Buffer =>
  Buffer.concat([Buffer.from('IHAVEOPT'), u32(number), u32(payload.length), payload]);
const none = new Uint8Array();
const go = optionBytes(NBD_OPT_GO, goPayload('ex', [3, 1]));
const optionSeeds = [
  Buffer.concat([u32(3), optionBytes(3, none), go]),
  Buffer.concat([
    u32(3),
    optionBytes(8, none),
    optionBytes(9, metaPayload('ex', ['base:', 'qemu:'])),
    optionBytes(10, metaPayload('ex', ['base:allocation'])),
    go,
  ]),
  Buffer.concat([u32(3), optionBytes(6, goPayload('ro', [0, 1, 2, 3])), optionBytes(2, none)]),
  Buffer.concat([u32(1), optionBytes(1, Buffer.from('ex'))]),
  Buffer.concat([
    u32(3),
    optionBytes(99, Buffer.alloc(500)),
    optionBytes(5, none),
    optionBytes(11, none),
    go,
  ]),
];

const request = (one: Request): Buffer => Buffer.from(encodeRequest(one, 0x1234n));
const requestSeeds = [
  Buffer.concat([
    request({ type: NBD_CMD_READ, length: 4096 }),
    request({ type: 7, offset: 0, length: 65_536 }),
  ]),
  Buffer.concat([
    request({ type: NBD_CMD_WRITE, offset: MIB, payload: Buffer.alloc(600, 0x62) }),
    request({ type: NBD_CMD_FLUSH }),
  ]),
  Buffer.concat([
    request({ type: NBD_CMD_WRITE_ZEROES, offset: 0, length: 8192, flags: 3 }),
    request({ type: 4, offset: 512, length: 512 }),
  ]),
  Buffer.concat([request({ type: 5, length: 4096 }), request({ type: 2 })]),
  Buffer.concat(
    Array.from({ length: 20 }, (_, at) => request({ type: at % 8, offset: at * 512, length: 512 })),
  ),
];

function candidates(starts: readonly number[], seeds: readonly Buffer[]): Buffer[] {
  return starts.map((start) => {
    const next = numbersFrom(start);
    const pick = (): Buffer => seeds[Math.floor(next() * seeds.length)] ?? Buffer.alloc(0);
    return mutated(pick(), pick(), next);
  });
}

describe('NBD against hostile bytes', () => {
  let victim: Victim;
  beforeAll(async () => {
    victim = await Victim.start();
  });
  afterAll(async () => {
    await victim.stop();
  });

  /** The client's flags and options as raw bytes. */
  async function haggle(input: Uint8Array): Promise<void> {
    const peer = await NbdPeer.connect(victim.socket);
    peer.send(input);
    await peer.listen('nothing', 4);
    peer.close();
  }

  /** A proper handshake, then raw bytes. */
  async function transmit(input: Uint8Array): Promise<void> {
    const peer = await NbdPeer.connect(victim.socket);
    await peer.greet(3);
    peer.sendOption(NBD_OPT_STRUCTURED_REPLY, none);
    peer.sendOption(NBD_OPT_SET_META_CONTEXT, metaPayload('ex', ['base:allocation']));
    peer.sendOption(NBD_OPT_GO, goPayload('ex', []));
    for (let at = 0; at < 3; at++) await peer.optionReplies();
    peer.send(input);
    await peer.listen('nothing', 4);
    peer.close();
  }

  it('survives every input that once failed', async () => {
    for (const input of corpus('nbd-options')) await haggle(input);
    for (const input of corpus('nbd-requests')) await transmit(input);
    expect(await victim.ailment()).toBeUndefined();
  });

  for (const [what, name, seeds, put] of [
    ['options', 'nbd-options', optionSeeds, haggle],
    ['requests', 'nbd-requests', requestSeeds, transmit],
  ] as const) {
    it(`survives mutated ${what}`, { timeout: 600_000 }, async () => {
      const property = fc.asyncProperty(
        fc.array(fc.nat(), { minLength: 24, maxLength: 24 }),
        async (starts) => {
          const inputs = candidates(starts, seeds);
          await Promise.all(inputs.map(async (input) => put(input)));
          const ailment = await victim.ailment();
          if (ailment !== undefined) {
            throw new Error(`${ailment}; ${inputs.map((input) => keep(name, input)).join('; ')}`);
          }
        },
      );
      await checkFor(0.3, property);
    });
  }
});

describe('NBD against a model', () => {
  let victim: Victim;
  beforeAll(async () => {
    victim = await Victim.start();
  });
  afterAll(async () => {
    await victim.stop();
  });

  it('reads what was written, whatever came in between', { timeout: 600_000 }, async () => {
    const size = 4 * MIB;
    const model = Buffer.alloc(size);
    model.fill(0x61, 0, MIB);
    const peer = await NbdPeer.connect(victim.socket);
    await peer.greet(3);
    peer.sendOption(NBD_OPT_GO, goPayload('ex', []));
    await peer.optionReplies();
    const span = fc
      .tuple(fc.nat(size), fc.oneof(fc.nat(700), fc.nat(70 * KIB)))
      .map(([offset, length]) => ({ offset, length: Math.min(length, size - offset) }));
    const operation = fc.oneof(
      fc.record({
        kind: fc.constant('write' as const),
        span,
        byte: fc.nat(255),
        flags: fc.constantFrom(0, FUA),
      }),
      fc.record({
        kind: fc.constant('zero' as const),
        span,
        byte: fc.constant(0),
        flags: fc.constantFrom(0, FUA, NO_HOLE),
      }),
      fc.record({
        kind: fc.constant('trim' as const),
        span,
        byte: fc.constant(0),
        flags: fc.constantFrom(0, FUA),
      }),
      fc.record({
        kind: fc.constant('read' as const),
        span,
        byte: fc.constant(0),
        flags: fc.constant(0),
      }),
    );
    const property = fc.asyncProperty(
      fc.array(operation, { minLength: 1, maxLength: 24 }),
      async (operations) => {
        for (const {
          kind,
          span: { offset, length },
          byte,
          flags,
        } of operations) {
          if (kind === 'read') {
            const bytes = await peer.read(offset, length);
            expect(bytes.equals(model.subarray(offset, offset + length))).toBe(true);
            continue;
          }
          const type = { write: NBD_CMD_WRITE, zero: NBD_CMD_WRITE_ZEROES, trim: NBD_CMD_TRIM }[
            kind
          ];
          const payload = kind === 'write' ? { payload: Buffer.alloc(length, byte) } : { length };
          expect(await peer.requests([{ type, offset, flags, ...payload }])).toEqual([
            'simple error 0',
          ]);
          // discard=ignore: a trim changes nothing.
          if (kind !== 'trim') model.fill(byte, offset, offset + length);
        }
        expect((await peer.read(0, size)).equals(model)).toBe(true);
      },
    );
    await checkFor(0.35, property);
    expect(await peer.requests([{ type: NBD_CMD_FLUSH }])).toEqual(['simple error 0']);
    peer.close();
    expect(readFileSync(victim.daemon.path('a.img')).equals(model)).toBe(true);
  });
});
