// The handshake as bytes: what a server says, and what becomes of it. Servers that break rules are those of
// test/protocol/client-conformance.

import { describe, expect, it } from 'vitest';
import {
  negotiate,
  type ServerInfo,
  type Wish,
} from '../../../../../src/block/drivers/nbd/negotiation.ts';
import { NegotiationError, receive, replies } from '../../../../../src/block/drivers/nbd/option.ts';
import {
  ack,
  context,
  EXTENDED_HEADERS,
  error,
  exportInfo,
  GO,
  greeting,
  info,
  LIST,
  listed,
  NAME,
  oldGreeting,
  SET_META_CONTEXT,
  STARTTLS,
  STRUCTURED_REPLY,
  u16,
  u32,
  u64,
} from './server-bytes.ts';

const wish: Wish = {
  name: Buffer.from('disk'),
  context: Buffer.from('base:allocation'),
  tls: false,
};

interface Outcome {
  readonly info?: ServerInfo;
  readonly error?: string;
  readonly hint?: string | undefined;
  /** The options that were sent, in order. */
  readonly options: readonly number[];
  readonly startedTls: boolean;
}

/** Lets the client negotiate with a server that says this, and then nothing more. */
function negotiated(says: readonly Buffer[], wanted: Partial<Wish> = {}): Outcome {
  let stream = Buffer.concat(says);
  const options: number[] = [];
  let startedTls = false;
  const outcome = (more: object): Outcome => ({ options, startedTls, ...more });
  try {
    const steps = negotiate({ ...wish, ...wanted });
    let result = steps.next(Buffer.alloc(0));
    while (result.done !== true) {
      const step = result.value;
      let bytes: Buffer = Buffer.alloc(0);
      if (step.do === 'send') {
        if (step.bytes.length >= 16) options.push(step.bytes.readUInt32BE(8));
      } else if (step.do === 'start tls') {
        startedTls = true;
      } else {
        if (stream.length < step.length) return outcome({ error: `<waits for ${step.what}>` });
        bytes = stream.subarray(0, step.length);
        stream = stream.subarray(step.length);
      }
      result = steps.next(bytes);
    }
    expect(stream.length, 'everything is read').toBe(0);
    return outcome({ info: result.value });
  } catch (error) {
    if (!(error instanceof NegotiationError)) throw error;
    if (error.farewell !== undefined) options.push(error.farewell.readUInt32BE(8));
    return outcome({ error: error.message, hint: error.hint });
  }
}

const plainFlags = 0x1;
const fullGreeting = [
  greeting(3),
  error(EXTENDED_HEADERS, 1),
  ack(STRUCTURED_REPLY),
  context(7, 'base:allocation'),
  ack(SET_META_CONTEXT),
];
const simpleGreeting = [greeting(3), error(EXTENDED_HEADERS, 1), error(STRUCTURED_REPLY, 1)];
const none = { minBlock: 0, optBlock: 0, maxBlock: 0 };

describe('negotiate', () => {
  it('ends with all that a modern server tells', () => {
    const blocks = info(3, Buffer.concat([u32(512), u32(4096), u32(1 << 20)]));
    const seen = negotiated([...fullGreeting, blocks, exportInfo(1 << 20, 0x5), ack(GO)]);
    expect(seen.info).toEqual({
      size: 1 << 20,
      flags: 5,
      headers: 'structured',
      minBlock: 512,
      optBlock: 4096,
      maxBlock: 1 << 20,
      contextId: 7,
    });
    expect(seen.options).toEqual([EXTENDED_HEADERS, STRUCTURED_REPLY, SET_META_CONTEXT, GO]);
  });

  it('takes extended headers where they are offered, and asks for nothing less then', () => {
    const seen = negotiated([
      greeting(3),
      ack(EXTENDED_HEADERS),
      ack(SET_META_CONTEXT),
      exportInfo(1024, plainFlags),
      ack(GO),
    ]);
    expect(seen.info).toMatchObject({ headers: 'extended', contextId: undefined });
    expect(seen.options).toEqual([EXTENDED_HEADERS, SET_META_CONTEXT, GO]);
  });

  it('does without structured replies, and so without contexts', () => {
    const seen = negotiated([...simpleGreeting, exportInfo(1024, plainFlags), ack(GO)]);
    expect(seen.info).toEqual({
      ...none,
      size: 1024,
      flags: 1,
      headers: 'simple',
      contextId: undefined,
    });
    expect(seen.options).toEqual([EXTENDED_HEADERS, STRUCTURED_REPLY, GO]);
  });

  it('ignores information that it did not ask for', () => {
    const more = [
      info(1, Buffer.from('name')),
      info(2, Buffer.alloc(0)),
      info(99, Buffer.alloc(10_000)),
    ];
    const seen = negotiated([...simpleGreeting, ...more, exportInfo(1024, 1), ...more, ack(GO)]);
    expect(seen.info?.size).toBe(1024);
  });

  it('falls back to the list and the export name', () => {
    const tail = [error(GO, 1), listed('other', 'about it'), listed('disk'), ack(LIST)];
    const seen = negotiated([...simpleGreeting, ...tail, u64(4096), u16(3)]);
    expect(seen.info).toMatchObject({ size: 4096, flags: 3 });
    expect(seen.options).toEqual([EXTENDED_HEADERS, STRUCTURED_REPLY, GO, LIST, NAME]);
  });

  it.each([
    ['an empty list', [ack(LIST)]],
    ['no list', [error(LIST, 1)]],
  ])('tries the export name with %s', (_, list) => {
    const seen = negotiated([...simpleGreeting, error(GO, 1), ...list, u64(4096), u16(3)]);
    expect(seen.info?.size).toBe(4096);
  });

  it('reads the zeroes behind the export name where they were not left out', () => {
    const seen = negotiated([
      greeting(1),
      error(EXTENDED_HEADERS, 1),
      error(STRUCTURED_REPLY, 1),
      error(GO, 1),
      error(LIST, 1),
      u64(4096),
      u16(3),
      Buffer.alloc(124),
    ]);
    expect(seen.info?.size).toBe(4096);
  });

  it('asks a server that is not fixed newstyle for nothing but the export', () => {
    const seen = negotiated([greeting(0), u64(4096), u16(3), Buffer.alloc(124)]);
    expect(seen.info).toMatchObject({ size: 4096, flags: 3, headers: 'simple' });
    expect(seen.options).toEqual([NAME]);
  });

  it('speaks the oldstyle', () => {
    const seen = negotiated([oldGreeting, u64(4096), u32(3), Buffer.alloc(124)], {
      name: Buffer.alloc(0),
    });
    expect(seen.info).toMatchObject({ size: 4096, flags: 3, headers: 'simple' });
    expect(seen.options).toEqual([]);
  });

  it('starts TLS before all else', () => {
    const seen = negotiated(
      [greeting(3), ack(STARTTLS), ...simpleGreeting.slice(1), exportInfo(1024, 1), ack(GO)],
      { tls: true },
    );
    expect(seen.startedTls).toBe(true);
    expect(seen.options).toEqual([STARTTLS, EXTENDED_HEADERS, STRUCTURED_REPLY, GO]);
  });

  it('leaves a server whose replies have no end', () => {
    const entry = listed('');
    const steps = replies(LIST, { strict: true }, function* ({ length }) {
      yield* receive(length, 'entry');
      return 'more';
    });
    let isHeader = false;
    const next = (): Buffer => {
      isHeader = !isHeader;
      return isHeader ? entry.subarray(0, 20) : entry.subarray(20);
    };
    steps.next(Buffer.alloc(0));
    expect(() => {
      while (steps.next(next()).done !== true);
    }).toThrow('Server does not end its reply to option 3 (list)');
  });

  it('asks under TLS once more for all that it asks for, and takes no less for an answer', () => {
    const seen = negotiated(
      [greeting(3), ack(STARTTLS), ...simpleGreeting.slice(1), error(GO, 5)],
      {
        tls: true,
      },
    );
    expect(seen).toMatchObject({
      startedTls: true,
      error: 'TLS negotiation required before option 7 (go)',
    });
  });

  it('hands on what the server says of a refusal, without control characters', () => {
    const said = error(GO, 6, 'no such\x1b[31m disk\n');
    expect(negotiated([...simpleGreeting, said])).toMatchObject({
      error: 'Requested export not available',
      hint: 'server reported: no such?[31m disk?',
    });
    expect(negotiated([...simpleGreeting, error(GO, 5)])).toMatchObject({
      error: 'TLS negotiation required before option 7 (go)',
      hint: 'Did you forget a valid tls-creds?',
    });
  });
});
