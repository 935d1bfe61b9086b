// Servers whose words went through a mangle: whatever is left of them, the client comes to an end with each, in order.

import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ClientRequest } from '../../../../../src/block/drivers/nbd/client-request.ts';
import { NbdConnection } from '../../../../../src/block/drivers/nbd/connection.ts';
import {
  type Headers,
  negotiate,
  type ServerInfo,
} from '../../../../../src/block/drivers/nbd/negotiation.ts';
import { NegotiationError } from '../../../../../src/block/drivers/nbd/option.ts';
import { allocate, ioBufferOver } from '../../../../../src/sys/memory.ts';
import { mutated, numbersFrom } from '../../../../fuzz/budget.ts';
import { MemoryChannel } from '../../../export/nbd/memory-channel.ts';
import { BLOCK_STATUS, CONTEXT_ID, FLUSH, READ, WRITE } from './scripted-server.ts';
import {
  ack,
  chunk,
  context,
  dataAt,
  EXTENDED_HEADERS,
  error,
  errorData,
  exportInfo,
  extendedChunk,
  extents,
  GO,
  greeting,
  holeAt,
  info,
  LIST,
  listed,
  oldGreeting,
  SET_META_CONTEXT,
  STRUCTURED_REPLY,
  simple,
  u16,
  u32,
  u64,
} from './server-bytes.ts';

/** The same each time, unless FUZZ_SEED says otherwise. */
const runs = { seed: Number(process.env['FUZZ_SEED'] ?? 1), numRuns: 100 };

/** More than any one thing that a server says in a handshake may be waited for. */
const HANDSHAKE_BUFFER = 8192;

const simpleStart = [greeting(3), error(EXTENDED_HEADERS, 1), error(STRUCTURED_REPLY, 1)];
const blockSizes = info(3, Buffer.concat([u32(512), u32(4096), u32(1 << 20)]));
const handshakes = [
  [
    greeting(3),
    error(EXTENDED_HEADERS, 1, 'what'),
    ack(STRUCTURED_REPLY),
    context(CONTEXT_ID, 'base:allocation'),
    ack(SET_META_CONTEXT),
    blockSizes,
    info(1, Buffer.from('disk')),
    exportInfo(1 << 20, 5),
    ack(GO),
  ],
  [greeting(3), ack(EXTENDED_HEADERS), ack(SET_META_CONTEXT), exportInfo(1024, 1), ack(GO)],
  [
    ...simpleStart,
    error(GO, 1),
    listed('other', 'about it'),
    listed('disk'),
    ack(LIST),
    u64(4096),
    u16(3),
  ],
  [...simpleStart, error(GO, 6, 'no such disk')],
  [greeting(0), u64(4096), u16(3), Buffer.alloc(124)],
  [oldGreeting, u64(4096), u32(3), Buffer.alloc(124)],
].map((parts) => Buffer.concat(parts));

/** How a handshake with these words ends. Throws what it must not throw. */
function negotiated(words: Buffer): 'done' | 'refused' | 'waits' {
  let rest = words;
  try {
    const steps = negotiate({
      name: Buffer.from('disk'),
      context: Buffer.from('base:allocation'),
      tls: false,
    });
    let result = steps.next(Buffer.alloc(0));
    while (result.done !== true) {
      const { value: step } = result;
      const wanted = step.do === 'receive' ? step.length : 0;
      expect(wanted).toBeLessThanOrEqual(HANDSHAKE_BUFFER);
      if (wanted > rest.length) return 'waits';
      const bytes = rest.subarray(0, wanted);
      rest = rest.subarray(wanted);
      result = steps.next(bytes);
    }
    return 'done';
  } catch (failure) {
    if (failure instanceof NegotiationError) return 'refused';
    throw failure;
  }
}

describe('mangled handshakes', () => {
  it('end with an export, an error or the wait for more', () => {
    const seen = new Set<string>();
    fc.assert(
      fc.property(fc.nat(), fc.nat(handshakes.length - 1), (start, index) => {
        const next = numbersFrom(start);
        const words = handshakes[index] ?? Buffer.alloc(0);
        const other = handshakes[Math.floor(next() * handshakes.length)] ?? words;
        seen.add(negotiated(mutated(words, other, next)));
      }),
      runs,
    );
    expect(seen).toEqual(new Set(['done', 'refused', 'waits']));
  });
});

const LENGTH = 4096;
/** From this size on data go straight to their place. */
const LARGE = 20_000;
/** Around what is read, where nobody has any business. */
const MARGIN = 64;
const UNTOUCHED = 0xee;

const terms = [
  { type: READ, offset: 0, length: LENGTH },
  { type: READ, offset: 65_536, length: LARGE },
  { type: WRITE, offset: 8192, length: LENGTH },
  { type: FLUSH, offset: 0, length: 0 },
  { type: BLOCK_STATUS, offset: 0, length: 65_536 },
] as const;
type Terms = (typeof terms)[number];

/** What a server that keeps the rules may say to a request. */
function answers({ type, offset, length }: Terms, cookie: Buffer, headers: Headers): Buffer[] {
  if (headers === 'simple') {
    return [simple(cookie, 0, type === READ ? Buffer.alloc(length, 1) : undefined)];
  }
  const say = headers === 'extended' ? extendedChunk : undefined;
  const one = (kind: number, data?: Buffer, done = true): Buffer => {
    const terms = { type: kind, done, ...(data === undefined ? {} : { data }) };
    return say === undefined ? chunk(cookie, terms) : say(cookie, offset, terms);
  };
  if (type === READ) {
    const half = length / 2;
    return [
      one(1, dataAt(offset, Buffer.alloc(half, 1)), false),
      one(2, holeAt(offset + half, half), false),
      one(0),
    ];
  }
  if (type === BLOCK_STATUS) {
    return headers === 'extended'
      ? [one(6, Buffer.concat([u32(CONTEXT_ID), u32(1), u64(length), u64(3)]))]
      : [one(5, extents(CONTEXT_ID, [length, 3]))];
  }
  return type === FLUSH ? [one(0x8001, errorData(28, 'no'))] : [one(0)];
}

describe('mangled replies', () => {
  it.each<Headers>(['simple', 'structured', 'extended'])(
    'end every request: %s',
    async (headers) => {
      const outcomes = new Set<string>();
      await fc.assert(
        fc.asyncProperty(fc.nat(), async (start) => {
          const next = numbersFrom(start);
          const channel = new MemoryChannel();
          channel.piece = 1 + Math.floor(next() ** 3 * 50_000);
          const ends: string[] = [];
          const connection = connectionOver(channel, headers, (why, unanswered) => {
            ends.push(why);
            outcomes.add(why);
            for (const request of unanswered) request.fail();
          });
          const memory = Buffer.alloc(LARGE + 2 * MARGIN, UNTOUCHED);
          const completed: number[] = [];
          const requests = terms.map((own, index) => {
            const buffer = ioBufferOver(memory);
            return new ClientRequest(
              { ...own, flags: 0, buffer, at: MARGIN },
              {
                completed(failure) {
                  completed.push(index);
                  outcomes.add(failure === undefined ? 'done' : 'failed');
                },
              },
            );
          });
          for (const request of requests) connection.submit(request);
          await Promise.resolve();
          const words = requests.flatMap((request, index) =>
            answers(terms[index] as Terms, cookieOf(request), headers),
          );
          const all = Buffer.concat(words);
          const other = Buffer.concat(words.slice(Math.floor(next() * words.length)));
          channel.incoming = next() < 0.1 ? all : mutated(all, other, next);
          while (channel.incoming.length > 0 && ends.length === 0) channel.onReadable();
          channel.receive = () => 0;
          if (ends.length === 0) channel.onReadable();
          expect(ends).toHaveLength(1);
          expect(completed.sort((one, other) => one - other)).toEqual(
            Object.keys(terms).map(Number),
          );
          const edges = [memory.subarray(0, MARGIN), memory.subarray(MARGIN + LARGE)];
          expect(edges.every((edge) => edge.every((byte) => byte === UNTOUCHED))).toBe(true);
        }),
        runs,
      );
      expect(outcomes).toEqual(new Set(['lost', 'fault', 'done', 'failed']));
    },
  );
});

function connectionOver(
  channel: MemoryChannel,
  headers: Headers,
  onEnd: (why: string, unanswered: readonly ClientRequest[]) => void,
): NbdConnection {
  const serverInfo: ServerInfo = {
    size: 1 << 20,
    flags: 1,
    headers,
    contextId: CONTEXT_ID,
    minBlock: 0,
    optBlock: 0,
    maxBlock: 0,
  };
  return new NbdConnection({
    channel,
    info: serverInfo,
    allocate,
    onRoom() {},
    onEnd: ({ why }, unanswered) => onEnd(why, unanswered),
  });
}

function cookieOf({ cookieHigh, cookieLow }: ClientRequest): Buffer {
  return Buffer.concat([u32(cookieHigh), u32(cookieLow)]);
}
