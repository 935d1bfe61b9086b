// Sessions that end at every byte, and garbage in every state: nothing is written that was not received completely.

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { waitUntil } from '../conformance/daemon-process.ts';
import { encodeRequest } from '../conformance/nbd-peer.ts';
import {
  FUA,
  goPayload,
  metaPayload,
  NBD_CMD_DISC,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_OPT_GO,
  NBD_OPT_LIST,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STRUCTURED_REPLY,
  u32,
} from '../conformance/wire-steps.ts';
import { numbersFrom } from '../fuzz/budget.ts';
import {
  type HostileServer,
  IMAGE_BYTE,
  IMAGE_SIZE,
  startHostileServer,
} from './hostile-server.ts';

const none = new Uint8Array();
const option = (number: number, payload: Uint8Array): Buffer =>
  Buffer.concat([Buffer.from('IHAVEOPT'), u32(number), u32(payload.length), payload]);

const flags = u32(3);
const options = [
  option(NBD_OPT_LIST, none),
  option(NBD_OPT_STRUCTURED_REPLY, none),
  option(NBD_OPT_SET_META_CONTEXT, metaPayload('ex', ['base:allocation'])),
  option(NBD_OPT_GO, goPayload('ex', [3])),
];
const handshake = Buffer.concat([flags, ...options]);

/** Where the session writes, and what. */
const AT = 8192;
const written = Buffer.alloc(96, 0xc3);
const write = Buffer.from(
  encodeRequest({ type: NBD_CMD_WRITE, flags: FUA, offset: AT, payload: written }, 2n),
);
const session = Buffer.concat([
  handshake,
  encodeRequest({ type: NBD_CMD_READ, length: 512 }, 1n),
  write,
  encodeRequest({ type: 7, length: 65_536 }, 3n),
  encodeRequest({ type: NBD_CMD_WRITE_ZEROES, offset: AT + written.length, length: 32 }, 4n),
  encodeRequest({ type: NBD_CMD_FLUSH }, 5n),
  encodeRequest({ type: NBD_CMD_DISC }, 6n),
]);
const writeEnd = session.indexOf(write) + write.length;

/** Connections at a time. */
const BATCH = 50;

/** Plays the first bytes of the session, then goes: politely, so that all of them are received, or not. */
async function play(server: HostileServer, cuts: readonly number[], way: 'end' | 'close') {
  for (let at = 0; at < cuts.length; at += BATCH) {
    await Promise.all(
      cuts.slice(at, at + BATCH).map(async (cut) => {
        const peer = await server.connect();
        peer.send(session.subarray(0, cut));
        if (way === 'close') {
          peer.close();
          return;
        }
        peer.endSending();
        expect((await peer.listen('the end')).at(-1)).toBe('<closed>');
      }),
    );
  }
}

function region(server: HostileServer): Buffer {
  return readFileSync(server.served.path('a.img')).subarray(AT, AT + 128);
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, index) => from + index);
}

describe('a session that ends', () => {
  for (const way of ['end', 'close'] as const) {
    const how = way === 'end' ? 'with the end of its stream' : 'without waiting for anything';
    it(`at any byte ${how} writes nothing that was not received completely`, async () => {
      const server = await startHostileServer();
      const descriptors = server.served.daemon.openDescriptors();
      const settled = async (): Promise<void> =>
        waitUntil(() => server.served.daemon.openDescriptors() <= descriptors, 30_000);
      await play(server, range(0, writeEnd), way);
      await settled();
      expect(region(server).every((byte) => byte === IMAGE_BYTE)).toBe(true);
      await play(server, range(writeEnd, session.length + 1), way);
      await settled();
      // What was sent completely may have been lost with a connection that was dropped, but not torn.
      const after = region(server);
      const first = after.subarray(0, written.length);
      const untouched = Buffer.alloc(written.length, IMAGE_BYTE);
      expect(first.equals(written) || (way === 'close' && first.equals(untouched))).toBe(true);
      const zeroed = after.subarray(written.length);
      expect(new Set(zeroed).size).toBe(1);
      if (way === 'end') expect(zeroed[0]).toBe(0);
      await server.expectUnharmed();
    });
  }
});

const states: Readonly<Record<string, Uint8Array>> = {
  'instead of the client flags': none,
  'instead of the first option': flags,
  'in the header of an option': Buffer.concat([flags, Buffer.from('IHAVE')]),
  'instead of the length of an option': Buffer.concat([flags, Buffer.from('IHAVEOPT'), u32(7)]),
  'as the data of NBD_OPT_GO': Buffer.concat([flags, Buffer.from('IHAVEOPT'), u32(7), u32(1000)]),
  'as the data of NBD_OPT_SET_META_CONTEXT': Buffer.concat([
    flags,
    ...options.slice(1, 2),
    Buffer.from('IHAVEOPT'),
    u32(10),
    u32(4000),
  ]),
  'as the data of NBD_OPT_EXPORT_NAME': Buffer.concat([
    flags,
    Buffer.from('IHAVEOPT'),
    u32(1),
    u32(100),
  ]),
  'between options': Buffer.concat([flags, ...options.slice(0, 3)]),
  'instead of the first request': handshake,
  'in the header of a request': Buffer.concat([handshake, u32(0x25609513), u32(0)]),
  'behind a read': Buffer.concat([
    handshake,
    encodeRequest({ type: NBD_CMD_READ, length: 4096 }, 1n),
  ]),
  'behind NBD_CMD_DISC': Buffer.concat([handshake, encodeRequest({ type: NBD_CMD_DISC }, 1n)]),
  'as the data of a write that is never complete': Buffer.concat([
    handshake,
    encodeRequest({ type: NBD_CMD_WRITE, length: 1_000_000 }, 1n),
  ]),
};

describe('garbage', () => {
  it.each(Object.entries(states))('%s harms nobody and writes nothing', async (_what, before) => {
    const server = await startHostileServer();
    const inside = await server.enter();
    const next = numbersFrom(before.length);
    const peers = await Promise.all(
      range(0, 20).map(async () => {
        const peer = await server.connect();
        peer.send(before);
        peer.send(Buffer.from(range(0, 5000).map(() => Math.floor(next() * 256))));
        peer.endSending();
        return peer;
      }),
    );
    for (const peer of peers) {
      expect((await peer.listen('the end')).at(-1)).toBe('<closed>');
    }
    expect(await inside.requests([{ type: NBD_CMD_READ, offset: AT, length: 4 }])).toHaveLength(1);
    const image = readFileSync(server.served.path('a.img'));
    expect(image.equals(Buffer.alloc(IMAGE_SIZE, IMAGE_BYTE))).toBe(true);
    await server.expectUnharmed();
  });
});
