// What the specification asks of a server's transmission phase, whatever the command.

import assert from 'node:assert/strict';
import { CHUNK, CMD, encodeRequest, errorOf, FLAG, OPT, type Request } from '../nbd-wire-client.ts';
import {
  beyond,
  chunksOf,
  contexts,
  DATA,
  errorFor,
  flags,
  goesOn,
  HAS,
  KIB,
  knownErrors,
  MIB,
  NBD_EINVAL,
  readBack,
  refused,
  SCRATCH,
  SIZE,
  write,
  writing,
} from './exchange.ts';
import { must, mustNot, type Section, should, shouldNot } from './rule.ts';
import { BIG, BIG_SIZE } from './subject-server.ts';

export const transmissionSections: readonly Section[] = [
  {
    name: 'Transmission flags',
    rules: [
      must('NBD_FLAG_HAS_FLAGS is set', async (subject) => {
        assert.equal((await flags(await subject.greeted())) & 1, 1);
      }),
      must('Writing to an export with NBD_FLAG_READ_ONLY is an error', async (subject) => {
        assert.equal((await flags(await subject.greeted(), 'ro')) & 2, 2);
        const client = await subject.ready({ name: 'ro' });
        for (const request of writing) assert.notEqual(await errorFor(client, request), 0);
      }),
      mustNot('A feature is advertised that is not there', async (subject) => {
        const advertised = await flags(await subject.greeted());
        const client = await subject.ready();
        const features: readonly [number, Request][] = [
          [HAS.FLUSH, { type: CMD.FLUSH }],
          [
            HAS.FUA,
            { type: CMD.WRITE, flags: FLAG.FUA, offset: SCRATCH, payload: Buffer.alloc(512) },
          ],
          [HAS.TRIM, { type: CMD.TRIM, offset: SCRATCH, length: 512 }],
          [
            HAS.ZEROES,
            { type: CMD.WRITE_ZEROES, flags: FLAG.NO_HOLE, offset: SCRATCH, length: 512 },
          ],
          [HAS.CACHE, { type: CMD.CACHE, length: 512 }],
        ];
        for (const [flag, request] of features) {
          if (advertised & flag) assert.equal(await errorFor(client, request), 0);
        }
      }),
      must(
        'NBD_FLAG_SEND_DF is set with structured replies, and clear without',
        async (subject) => {
          const client = await subject.greeted();
          assert.equal((await flags(client)) & HAS.DF, 0);
          await client.option(OPT.STRUCTURED_REPLY);
          assert.equal((await flags(client)) & HAS.DF, HAS.DF);
        },
      ),
      must(
        'NBD_FLAG_SEND_FAST_ZERO is set only with NBD_FLAG_SEND_WRITE_ZEROES',
        async (subject) => {
          for (const name of ['', 'ro', BIG]) {
            const set = await flags(await subject.greeted(), name);
            assert.ok((set & HAS.FAST) === 0 || (set & HAS.ZEROES) !== 0);
          }
        },
      ),
      must(
        'With NBD_FLAG_CAN_MULTI_CONN a flush makes writes visible to all connections',
        async (subject) => {
          for (const byte of [1, 2, 3]) {
            const [writer, reader] = [await subject.ready(), await subject.ready()];
            assert.ok((await flags(await subject.greeted())) & HAS.MULTI);
            await write(writer, byte);
            await goesOn(writer);
            assert.ok((await readBack(reader, SCRATCH, 512)).equals(Buffer.alloc(512, byte)));
          }
        },
      ),
    ],
  },
  {
    name: 'Transmission',
    rules: [
      must('A reply has the cookie of its request, whatever it is', async (subject) => {
        const client = await subject.ready();
        for (const cookie of [0n, 1n, (1n << 64n) - 1n, 1n << 63n]) {
          for (const type of [CMD.READ, CMD.FLUSH, 99]) {
            const length = type === CMD.READ ? 512 : 0;
            for (const reply of await client.request({ type, cookie, length })) {
              assert.equal(reply.cookie, cookie);
            }
          }
        }
      }),
      must('Each request gets one reply, also of many at once', async (subject) => {
        const client = await subject.ready({ structured: false });
        const cookies = Array.from({ length: 500 }, (_, index) => BigInt(index));
        client.send(
          ...cookies.map((cookie) => encodeRequest({ type: CMD.READ, length: 512, cookie })),
        );
        const answered = [];
        for (const _ of cookies) answered.push((await client.reply(512)).cookie);
        assert.deepEqual(
          answered.toSorted((a, b) => Number(a - b)),
          cookies,
        );
      }),
      must('Writes that were replied to are in the file once a flush is', async (subject) => {
        const client = await subject.ready();
        await write(client, 9);
        await goesOn(client);
        assert.ok(
          (await readBack(await subject.ready(), SCRATCH, 8192)).every((byte) => byte === 9),
        );
      }),
      must(
        'Replies are simple as long as structured replies are not negotiated',
        async (subject) => {
          const client = await subject.ready({ structured: false });
          for (const type of [CMD.READ, CMD.FLUSH, CMD.BLOCK_STATUS, 99]) {
            const [reply] = await client.request({ type, length: 0 });
            assert.equal(reply?.kind, 'simple');
          }
        },
      ),
      mustNot(
        'A read is answered with a simple reply once they are, not even an early error',
        async (subject) => {
          const client = await subject.ready();
          const reads = [{ length: 512 }, { length: 0 }, beyond, { flags: 0x8000, length: 512 }];
          for (const read of reads) await chunksOf(client, { type: CMD.READ, ...read });
        },
      ),
      should('Errors come as structured replies, with a text', async (subject) => {
        const [reply] = await (await subject.ready()).request({ type: 99 });
        assert.ok((errorOf(reply)?.text ?? '') !== '');
      }),
    ],
  },
  {
    name: 'Terminating the transmission phase',
    rules: [
      must('NBD_CMD_DISC closes the connection, without a reply', async (subject) => {
        const client = await subject.ready();
        client.sendRequest({ type: CMD.DISC });
        assert.equal((await client.receiveRest()).length, 0);
      }),
      must('Requests that came before NBD_CMD_DISC are carried out', async (subject) => {
        const client = await subject.ready({ structured: false });
        const payload = Buffer.alloc(100_000, 0x77);
        client.sendRequest({ type: CMD.WRITE, offset: SCRATCH, payload });
        client.sendRequest({ type: CMD.DISC });
        assert.equal((await client.receiveRest()).length, 16);
        assert.ok((await readBack(await subject.ready(), SCRATCH, 100_000)).equals(payload));
      }),
      mustNot('A connection is ended for an error that can be answered', async (subject) => {
        const client = await subject.ready({ contexts });
        for (const type of [
          CMD.READ,
          CMD.TRIM,
          CMD.CACHE,
          CMD.WRITE_ZEROES,
          CMD.BLOCK_STATUS,
          99,
        ]) {
          await refused(client, { type, ...beyond }, NBD_EINVAL);
        }
        const payload = Buffer.alloc(1024);
        await refused(client, { type: CMD.WRITE, offset: SIZE - 512, payload }, NBD_EINVAL);
      }),
    ],
  },
  {
    name: 'Size constraints of requests',
    rules: [
      should('Payloads of 32 MiB are served', async (subject) => {
        const client = await subject.ready({ name: BIG });
        const payload = Buffer.alloc(32 * MIB);
        assert.equal(await errorFor(client, { type: CMD.WRITE, payload }), 0);
        assert.equal((await readBack(client, 0, 32 * MIB)).length, 32 * MIB);
      }),
      should(
        'Any offset and length is served where the minimum block size is 1',
        async (subject) => {
          const client = await subject.ready();
          const all = await readBack(client, DATA.start, 4096);
          assert.ok((await readBack(client, DATA.start + 3, 1001)).equals(all.subarray(3, 1004)));
        },
      ),
      shouldNot(
        'A request without payload that is larger than the maximum ends the session',
        async (subject) => {
          const client = await subject.ready({ name: BIG, contexts });
          for (const type of [CMD.TRIM, CMD.WRITE_ZEROES, CMD.CACHE, CMD.BLOCK_STATUS]) {
            await client.request({ type, length: BIG_SIZE });
            await goesOn(client);
          }
        },
      ),
      should(
        'A read, trim, cache or status request beyond the end is NBD_EINVAL',
        async (subject) => {
          const client = await subject.ready({ contexts });
          for (const type of [CMD.READ, CMD.TRIM, CMD.CACHE, CMD.BLOCK_STATUS]) {
            await refused(client, { type, ...beyond }, NBD_EINVAL);
            await refused(client, { type, offset: (1n << 64n) - 1n, length: 512 }, NBD_EINVAL);
          }
        },
      ),
      shouldNot('A request for no bytes ends the session', async (subject) => {
        const client = await subject.ready({ contexts });
        for (const type of Object.values(CMD)) {
          if (type === CMD.DISC) continue;
          await client.request({ type, length: 0 });
          await goesOn(client);
        }
      }),
    ],
  },
  {
    name: 'Command flags',
    rules: [
      must('NBD_CMD_FLAG_FUA is accepted on every command', async (subject) => {
        const client = await subject.ready({ contexts });
        for (const type of [
          CMD.READ,
          CMD.FLUSH,
          CMD.TRIM,
          CMD.CACHE,
          CMD.WRITE_ZEROES,
          CMD.BLOCK_STATUS,
        ]) {
          const length = type === CMD.FLUSH ? 0 : 512;
          await refused(client, { type, flags: FLAG.FUA, offset: SCRATCH, length }, 0);
        }
        const payload = Buffer.alloc(512);
        await refused(client, { type: CMD.WRITE, flags: FLAG.FUA, offset: SCRATCH, payload }, 0);
      }),
      should('An unknown flag is NBD_EINVAL', async (subject) => {
        const client = await subject.ready({ contexts });
        for (const type of [
          CMD.READ,
          CMD.FLUSH,
          CMD.TRIM,
          CMD.CACHE,
          CMD.WRITE_ZEROES,
          CMD.BLOCK_STATUS,
        ]) {
          await refused(client, { type, flags: 0x8000, length: 512 }, NBD_EINVAL);
        }
      }),
      should('A flag that is for another command is NBD_EINVAL', async (subject) => {
        const client = await subject.ready({ contexts });
        const { NO_HOLE, DF, REQ_ONE, FAST_ZERO } = FLAG;
        const wrong: readonly [number, readonly number[]][] = [
          [CMD.READ, [NO_HOLE, REQ_ONE, FAST_ZERO]],
          [CMD.FLUSH, [NO_HOLE, DF, REQ_ONE, FAST_ZERO]],
          [CMD.TRIM, [NO_HOLE, DF, REQ_ONE, FAST_ZERO]],
          [CMD.CACHE, [NO_HOLE, DF, REQ_ONE, FAST_ZERO]],
          [CMD.WRITE_ZEROES, [DF, REQ_ONE]],
          [CMD.BLOCK_STATUS, [NO_HOLE, DF, FAST_ZERO]],
        ];
        for (const [type, each] of wrong) {
          for (const flag of each)
            await refused(client, { type, flags: flag, length: 512 }, NBD_EINVAL);
        }
      }),
      should('NBD_CMD_FLAG_DF without structured replies is NBD_EINVAL', async (subject) => {
        const client = await subject.ready({ structured: false });
        await refused(client, { type: CMD.READ, flags: FLAG.DF, length: 512 }, NBD_EINVAL);
      }),
      should('An unknown command is NBD_EINVAL', async (subject) => {
        const client = await subject.ready();
        for (const type of [9, 99, 0xffff]) await refused(client, { type }, NBD_EINVAL);
      }),
    ],
  },
  {
    name: 'Structured replies',
    rules: [
      must('NBD_REPLY_FLAG_DONE is on the last chunk of a reply, and no other', async (subject) => {
        const client = await subject.ready({ contexts });
        for (const type of [CMD.READ, CMD.BLOCK_STATUS]) {
          await chunksOf(client, { type, length: 256 * KIB });
          await goesOn(client);
        }
      }),
      must('A chunk of type NONE has no content and ends its reply', async (subject) => {
        const [chunk] = await chunksOf(await subject.ready(), { type: CMD.READ, length: 0 });
        assert.deepEqual([chunk?.type, chunk?.data.length, chunk?.done], [CHUNK.NONE, 0, true]);
      }),
      must(
        'A chunk of data has at least 1 byte, a hole exactly 12 bytes and a length',
        async (subject) => {
          const chunks = await chunksOf(await subject.ready(), { type: CMD.READ, length: SIZE });
          assert.ok(chunks.length > 1);
          for (const { type, data } of chunks) {
            if (type === CHUNK.OFFSET_DATA) assert.ok(data.length >= 9);
            if (type === CHUNK.OFFSET_HOLE)
              assert.ok(data.length === 12 && data.readUInt32BE(8) > 0);
          }
        },
      ),
      must('An error chunk has an error of the list and a text that fits', async (subject) => {
        const client = await subject.ready({ name: 'ro' });
        for (const request of [{ type: CMD.READ, ...beyond }, { type: 99 }, ...writing]) {
          const [chunk] = await chunksOf(client, request);
          const { type, data = Buffer.alloc(6) } = chunk ?? {};
          assert.equal(type, CHUNK.ERROR);
          assert.ok(knownErrors.includes(data.readUInt32BE()));
          const length = data.readUInt16BE(4);
          assert.ok(length <= 4096 && length === data.length - 6);
        }
      }),
      shouldNot('An error chunk comes more than once in a reply', async (subject) => {
        const chunks = await chunksOf(await subject.ready(), { type: CMD.READ, ...beyond });
        assert.equal(chunks.length, 1);
      }),
    ],
  },
];
