// The handshake as bytes: what a server says, and what becomes of it. One row for each rule.

import { describe, expect, it } from 'vitest';
import {
  negotiate,
  type ServerInfo,
  type Wish,
} from '../../../../../src/block/drivers/nbd/negotiation.ts';
import { NegotiationError } from '../../../../../src/block/drivers/nbd/option.ts';
import {
  ABORT,
  ack,
  context,
  EXTENDED_HEADERS,
  error,
  exportInfo,
  GO,
  greeting,
  hex,
  info,
  LIST,
  listed,
  NAME,
  oldGreeting,
  reply,
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
      info(99, Buffer.alloc(40)),
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

interface Rule {
  readonly rule: string;
  readonly says: readonly Buffer[];
  readonly wanted?: Partial<Wish>;
  readonly error: string;
  /** The server is told with NBD_OPT_ABORT. */
  readonly abort?: true;
}

const go = (...more: Buffer[]): Buffer[] => [...simpleGreeting, ...more];
const contexts = (...more: Buffer[]): Buffer[] => [...fullGreeting.slice(0, 3), ...more];
const list = (...more: Buffer[]): Buffer[] => go(error(GO, 1), ...more);
const blockSizes = (min: number, opt: number, max: number): Buffer =>
  info(3, Buffer.concat([u32(min), u32(opt), u32(max)]));
const tls = { tls: true };

const rules: readonly Rule[] = [
  {
    rule: 'NBDMAGIC comes first',
    says: [hex('4e42444d41474944')],
    error: 'Bad initial magic received: 0x4e42444d41474944',
  },
  {
    rule: 'IHAVEOPT or the oldstyle magic comes second',
    says: [hex('4e42444d41474943'), hex('0000000000000001')],
    error: 'Bad server magic received: 0x1',
  },
  {
    rule: 'TLS needs fixed newstyle',
    says: [greeting(0)],
    wanted: tls,
    error: 'Server does not support STARTTLS',
  },
  {
    rule: 'TLS needs newstyle',
    says: [oldGreeting],
    wanted: tls,
    error: 'Server does not support STARTTLS',
  },
  {
    rule: 'TLS is refused as unknown',
    says: [greeting(3), error(STARTTLS, 1)],
    wanted: tls,
    error: "Server don't support STARTTLS option",
    abort: true,
  },
  {
    rule: 'TLS is refused by policy',
    says: [greeting(3), error(STARTTLS, 2)],
    wanted: tls,
    error: 'Denied by server for option 5 (starttls)',
    abort: true,
  },
  {
    rule: 'a yes has no data',
    says: [greeting(3), reply(STARTTLS, 1, Buffer.alloc(4))],
    wanted: tls,
    error: "Option 5 ('starttls') response length is 4 (it should be zero)",
    abort: true,
  },
  {
    rule: 'a yes is NBD_REP_ACK',
    says: [greeting(3), reply(STARTTLS, 2)],
    wanted: tls,
    error: 'Server answered option 5 (starttls) with unexpected reply 2 (server)',
    abort: true,
  },
  {
    rule: 'oldstyle exports have no names',
    says: [oldGreeting],
    error: 'Server does not support non-empty export names',
  },
  {
    rule: 'the upper half of oldstyle flags is zero',
    says: [oldGreeting, u64(1), u32(0x10003)],
    wanted: { name: Buffer.alloc(0) },
    error: 'Unexpected export flags 10003x',
  },
  {
    rule: 'replies to options have their magic',
    says: [greeting(3), Buffer.alloc(20)],
    error: 'Unexpected option reply magic',
    abort: true,
  },
  {
    rule: 'replies name the option that they answer',
    says: go(ack(LIST)),
    error: 'Unexpected option type 3 (list), expected 7 (go)',
    abort: true,
  },
  ...(
    [
      [2, 'Denied by server for option 7 (go)'],
      [3, 'Invalid parameters for option 7 (go)'],
      [4, 'Server lacks support for option 7 (go)'],
      [5, 'TLS negotiation required before option 7 (go)'],
      [6, 'Requested export not available'],
      [7, 'Server shutting down before option 7 (go)'],
      [8, 'Server requires INFO_BLOCK_SIZE for option 7 (go)'],
      [9, 'Unknown error code when asking for option 7 (go)'],
      [1000, 'Unknown error code when asking for option 7 (go)'],
    ] as const
  ).map(([code, text]) => ({
    rule: `error ${code} ends the handshake`,
    says: go(error(GO, code)),
    error: text,
    abort: true as const,
  })),
  {
    rule: 'messages of errors have at most 4096 bytes',
    says: go(reply(GO, 0x80000006, Buffer.alloc(0), 4097)),
    error: 'server error 2147483654 (export unknown) message is too long',
    abort: true,
  },
  {
    rule: 'a message without end is not waited for, where errors are ignored either',
    says: [greeting(3), reply(EXTENDED_HEADERS, 0x80000001, Buffer.alloc(0), 0xffffffff)],
    error: 'server error 2147483649 (unsupported) message is too long',
    abort: true,
  },
  {
    rule: 'the answer to NBD_OPT_GO ends without data',
    says: go(reply(GO, 1, Buffer.alloc(1))),
    error: 'server sent invalid NBD_REP_ACK',
  },
  {
    rule: 'NBD_INFO_EXPORT is sent',
    says: go(blockSizes(1, 512, 4096), ack(GO)),
    error: 'broken server omitted NBD_INFO_EXPORT',
  },
  {
    rule: 'NBD_FLAG_HAS_FLAGS is set',
    says: go(exportInfo(1024, 0), ack(GO)),
    error: 'broken server omitted NBD_INFO_EXPORT',
  },
  {
    rule: 'the answer to NBD_OPT_GO is NBD_REP_INFO',
    says: go(reply(GO, 2)),
    error: 'unexpected reply type 2 (server), expected 3 (info)',
    abort: true,
  },
  {
    rule: 'NBD_REP_INFO has a type',
    says: go(reply(GO, 3, Buffer.alloc(1))),
    error: 'NBD_REP_INFO length 1 is too short',
    abort: true,
  },
  {
    rule: 'NBD_INFO_EXPORT has its size',
    says: go(info(0, Buffer.alloc(11))),
    error: 'remaining export info len 11 is unexpected size',
    abort: true,
  },
  {
    rule: 'NBD_INFO_BLOCK_SIZE has its size',
    says: go(info(3, Buffer.alloc(11))),
    error: 'remaining export info len 11 is unexpected size',
    abort: true,
  },
  {
    rule: 'other information is not without end',
    says: go(reply(GO, 3, u16(2), 0xffffffff)),
    error: 'NBD_REP_INFO length 4294967293 is too long',
    abort: true,
  },
  ...(
    [
      [[0, 512, 4096], 'minimum block size 0 is not a power of two'],
      [[3, 512, 4096], 'minimum block size 3 is not a power of two'],
      [[0xffffffff, 512, 4096], 'minimum block size 4294967295 is not a power of two'],
      [[131072, 131072, 131072], 'minimum block size 131072 is not valid'],
      [[0x80000000, 0x80000000, 0x80000000], 'minimum block size 2147483648 is not valid'],
      [[512, 0, 4096], 'preferred block size 0 is not valid'],
      [[512, 1000, 4096], 'preferred block size 1000 is not valid'],
      [[512, 256, 4096], 'preferred block size 256 is not valid'],
      [[512, 512, 256], 'maximum block size 256 is not valid'],
      [[512, 512, 0], 'maximum block size 0 is not valid'],
    ] as const
  ).map(([[min, opt, max], text]) => ({
    rule: `block sizes: ${text}`,
    says: go(blockSizes(min, opt, max)),
    error: `server ${text}`,
    abort: true as const,
  })),
  {
    rule: 'the size is a multiple of the minimum block size',
    says: go(blockSizes(512, 512, 4096), exportInfo(1000, 1)),
    error: 'export size 1000 is not multiple of minimum block size 512',
    abort: true,
  },
  {
    rule: 'the size is a multiple of the minimum block size, which may come later',
    says: go(exportInfo(1000, 1), blockSizes(512, 512, 4096), ack(GO)),
    error: 'export size 1000 is not multiple of minimum block size 512',
    abort: true,
  },
  {
    rule: 'the end of contexts has no data',
    says: contexts(reply(SET_META_CONTEXT, 1, Buffer.alloc(1))),
    error: 'Unexpected length to ACK response',
    abort: true,
  },
  {
    rule: 'contexts are NBD_REP_META_CONTEXT',
    says: contexts(reply(SET_META_CONTEXT, 3)),
    error: 'Unexpected reply type 3 (info), expected 4 (meta context)',
    abort: true,
  },
  {
    rule: 'a context has a name',
    says: contexts(reply(SET_META_CONTEXT, 4, u32(1))),
    error: 'Failed to negotiate meta context, server answered with unexpected length 4',
    abort: true,
  },
  {
    rule: 'the name of a context has at most 4096 bytes',
    says: contexts(reply(SET_META_CONTEXT, 4, u32(1), 4101)),
    error: 'Failed to negotiate meta context, server answered with unexpected length 4101',
    abort: true,
  },
  {
    rule: 'a context is one that was asked for',
    says: contexts(context(1, 'other')),
    error:
      "Failed to negotiate meta context 'base:allocation', server answered with different context 'other'",
    abort: true,
  },
  {
    rule: 'a context is granted once',
    says: contexts(context(1, 'base:allocation'), context(2, 'base:allocation')),
    error: 'Server answered with more than one context',
    abort: true,
  },
  {
    rule: 'the export is on the list',
    says: list(listed('other'), ack(LIST)),
    error: "No export with name 'disk' available",
    abort: true,
  },
  {
    rule: 'the end of the list has no data',
    says: list(reply(LIST, 1, Buffer.alloc(1))),
    error: 'length too long for option end',
    abort: true,
  },
  {
    rule: 'entries of the list are NBD_REP_SERVER',
    says: list(reply(LIST, 3)),
    error: 'Unexpected reply type 3 (info), expected 2 (server)',
    abort: true,
  },
  {
    rule: 'an entry has the length of its name',
    says: list(reply(LIST, 2, Buffer.alloc(3))),
    error: 'incorrect option length 3',
    abort: true,
  },
  {
    rule: 'a name is inside its entry',
    says: list(reply(LIST, 2, Buffer.concat([u32(2), Buffer.from('x')]))),
    error: "incorrect name length in server's list response",
    abort: true,
  },
  {
    rule: 'names have at most 4096 bytes',
    says: list(reply(LIST, 2, u32(4097), 4101)),
    error: "incorrect name length in server's list response",
    abort: true,
  },
  {
    rule: 'descriptions have at most 4096 bytes',
    says: list(reply(LIST, 2, Buffer.concat([u32(1), Buffer.from('x')]), 5 + 4097)),
    error: "incorrect description length in server's list response",
    abort: true,
  },
];

describe('negotiate: what a server must not do', () => {
  it.each(rules)('$rule', ({ says, wanted, error: text, abort }) => {
    const seen = negotiated(says, wanted);
    expect(seen.error).toBe(text);
    expect(seen.options.at(-1) === ABORT, 'NBD_OPT_ABORT').toBe(abort === true);
  });
});
