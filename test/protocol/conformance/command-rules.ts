// What the specification asks of a server for each command.

import assert from 'node:assert/strict';
import { CMD, encodeRequest, FLAG, infoRequest, metaQuery, OPT } from '../nbd-wire-client.ts';
import {
  AS_REFERENCE,
  beyond,
  chunksOf,
  contexts,
  DATA,
  errorFor,
  goesOn,
  KIB,
  knownErrors,
  MIB,
  NBD_EINVAL,
  NBD_ENOTSUP,
  partsOf,
  readBack,
  refused,
  SCRATCH,
  SIZE,
  status,
  write,
  writing,
} from './exchange.ts';
import { deviating, must, mustNot, type Section, should, shouldNot } from './rule.ts';
import { BIG, BIG_SIZE } from './subject-server.ts';

export const commandSections: readonly Section[] = [
  {
    name: 'NBD_CMD_READ',
    rules: [
      must('Chunks cover the range without overlap, and nothing beside it', async (subject) => {
        const client = await subject.ready();
        await readBack(client, 0, SIZE);
        await readBack(client, DATA.start - 100, 200);
        await readBack(client, DATA.end - 77, 1000);
      }),
      must('A hole reads as zeroes, in whatever kind of chunk', async (subject) => {
        const bytes = await readBack(await subject.ready(), 0, DATA.start);
        assert.ok(bytes.equals(Buffer.alloc(DATA.start)));
      }),
      should('Chunks begin and end at multiples of 512 where the request does', async (subject) => {
        const chunks = await chunksOf(await subject.ready(), { type: CMD.READ, length: SIZE });
        for (const { offset, bytes } of partsOf(chunks)) {
          assert.ok(offset % 512 === 0 && bytes.length % 512 === 0);
        }
      }),
      must('NBD_CMD_FLAG_DF gives one content chunk, zeroes included', async (subject) => {
        const offset = DATA.start - 4096;
        const request = { type: CMD.READ, flags: FLAG.DF, offset, length: 8192 };
        const parts = partsOf(await chunksOf(await subject.ready(), request));
        assert.deepEqual(
          parts.map((part) => [part.offset, part.bytes.length]),
          [[offset, 8192]],
        );
        assert.ok(parts[0]?.bytes.subarray(0, 4096).equals(Buffer.alloc(4096)));
      }),
      must('NBD_CMD_FLAG_DF is served up to 65536 bytes', async (subject) => {
        const request = { type: CMD.READ, flags: FLAG.DF, offset: 32 * KIB, length: 64 * KIB };
        assert.equal(await errorFor(await subject.ready(), request), 0);
      }),
      must('A simple reply has the data when it has no error', async (subject) => {
        const client = await subject.ready({ structured: false });
        const read = { type: CMD.READ, offset: DATA.start, length: 700 };
        const [reply] = await client.request(read, 700);
        const same = await readBack(await subject.ready(), DATA.start, 700);
        assert.ok(reply?.data.equals(same));
      }),
      mustNot('Data follow a simple reply with an error', async (subject) => {
        const client = await subject.ready({ structured: false });
        await refused(client, { type: CMD.READ, ...beyond }, NBD_EINVAL);
      }),
    ],
  },
  {
    name: 'NBD_CMD_WRITE',
    rules: [
      must('What was written is read back', async (subject) => {
        const client = await subject.ready();
        for (const length of [1, 513, 4096, 100_000]) {
          await write(client, length & 0xff, length);
          const expected = Buffer.alloc(length, length & 0xff);
          assert.ok((await readBack(client, SCRATCH, length)).equals(expected));
        }
      }),
      must('The data of a write that is refused are skipped', async (subject) => {
        const client = await subject.ready({ name: 'ro' });
        const payload = encodeRequest({ type: CMD.DISC });
        assert.notEqual(await errorFor(client, { type: CMD.WRITE, payload }), 0);
        await goesOn(client);
      }),
      deviating(
        should('A write beyond the end is NBD_ENOSPC', async (subject) => {
          const request = { type: CMD.WRITE, offset: SIZE - 512, payload: Buffer.alloc(1024) };
          await refused(await subject.ready(), request, 28);
        }),
        AS_REFERENCE,
        async (subject) => {
          const request = { type: CMD.WRITE, offset: SIZE - 512, payload: Buffer.alloc(1024) };
          await refused(await subject.ready(), request, NBD_EINVAL);
        },
      ),
      deviating(
        should('Writing or trimming on a read-only export is NBD_EPERM', async (subject) => {
          const client = await subject.ready({ name: 'ro' });
          for (const request of writing.slice(0, 2)) await refused(client, request, 1);
        }),
        AS_REFERENCE,
        async (subject) => {
          const client = await subject.ready({ name: 'ro' });
          for (const request of writing.slice(0, 2)) await refused(client, request, NBD_EINVAL);
        },
      ),
    ],
  },
  {
    name: 'NBD_CMD_FLUSH, NBD_CMD_TRIM and NBD_CMD_CACHE',
    rules: [
      must('A flush is replied to with success when writes are durable', async (subject) => {
        const client = await subject.ready();
        await write(client, 4);
        await goesOn(client);
      }),
      must('A trim leaves what is outside of its range as it was', async (subject) => {
        const client = await subject.ready();
        await write(client, 6, 12 * KIB);
        await refused(client, { type: CMD.TRIM, offset: SCRATCH + 4096, length: 4096 }, 0);
        const bytes = await readBack(client, SCRATCH, 12 * KIB);
        const kept = Buffer.concat([bytes.subarray(0, 4096), bytes.subarray(8192)]);
        assert.ok(kept.equals(Buffer.alloc(8192, 6)));
      }),
      mustNot('A cache request changes what is read and written', async (subject) => {
        const client = await subject.ready();
        await write(client, 8);
        await refused(client, { type: CMD.CACHE, offset: SCRATCH, length: 8192 }, 0);
        assert.ok((await readBack(client, SCRATCH, 8192)).equals(Buffer.alloc(8192, 8)));
      }),
      must('A cache request with flags that are not known is refused', async (subject) => {
        const client = await subject.ready();
        for (const flag of [2, 4, 8, 16, 32]) {
          await refused(client, { type: CMD.CACHE, flags: flag, length: 512 }, NBD_EINVAL);
        }
      }),
    ],
  },
  {
    name: 'NBD_CMD_WRITE_ZEROES',
    rules: [
      must('The range reads as zeroes afterwards', async (subject) => {
        const client = await subject.ready();
        await write(client, 5);
        await refused(client, { type: CMD.WRITE_ZEROES, offset: SCRATCH, length: 8192 }, 0);
        assert.ok((await readBack(client, SCRATCH, 8192)).equals(Buffer.alloc(8192)));
      }),
      must('NBD_CMD_FLAG_NO_HOLE is supported, and the range reads as zeroes', async (subject) => {
        const client = await subject.ready();
        await write(client, 7);
        const flag = FLAG.NO_HOLE;
        const request = { type: CMD.WRITE_ZEROES, flags: flag, offset: SCRATCH, length: 8192 };
        await refused(client, request, 0);
        assert.ok((await readBack(client, SCRATCH, 8192)).equals(Buffer.alloc(8192)));
      }),
      mustNot('It fails with NBD_ENOTSUP unless NBD_CMD_FLAG_FAST_ZERO is set', async (subject) => {
        const client = await subject.ready();
        for (const flag of [0, FLAG.NO_HOLE, FLAG.FUA]) {
          const request = { type: CMD.WRITE_ZEROES, flags: flag, offset: SCRATCH, length: 8192 };
          assert.notEqual(await errorFor(client, request), NBD_ENOTSUP);
        }
      }),
      must('NBD_CMD_FLAG_FAST_ZERO succeeds, or fails with NBD_ENOTSUP', async (subject) => {
        for (const name of ['', BIG]) {
          const client = await subject.ready({ name });
          const request = {
            type: CMD.WRITE_ZEROES,
            flags: FLAG.FAST_ZERO,
            offset: SCRATCH,
            length: 4096,
          };
          assert.ok([0, NBD_ENOTSUP].includes(await errorFor(client, request)));
        }
      }),
      shouldNot(
        'A request with NBD_CMD_FLAG_FAST_ZERO that fails changes anything',
        async (subject) => {
          const client = await subject.ready();
          await write(client, 3);
          const request = {
            type: CMD.WRITE_ZEROES,
            flags: FLAG.FAST_ZERO,
            offset: SCRATCH,
            length: 8192,
          };
          const error = await errorFor(client, request);
          const expected = Buffer.alloc(8192, error === 0 ? 0 : 3);
          assert.ok((await readBack(client, SCRATCH, 8192)).equals(expected));
        },
      ),
      shouldNot('NBD_EOVERFLOW comes for a length with NBD_CMD_FLAG_FAST_ZERO', async (subject) => {
        const request = { type: CMD.WRITE_ZEROES, flags: FLAG.FAST_ZERO, length: BIG_SIZE };
        assert.notEqual(await errorFor(await subject.ready({ name: BIG }), request), 75);
      }),
      deviating(
        should('Zeroing beyond the end is NBD_ENOSPC', async (subject) => {
          await refused(await subject.ready(), { type: CMD.WRITE_ZEROES, ...beyond }, 28);
        }),
        AS_REFERENCE,
        async (subject) => {
          await refused(await subject.ready(), { type: CMD.WRITE_ZEROES, ...beyond }, NBD_EINVAL);
        },
      ),
      deviating(
        should('Zeroing on a read-only export is NBD_EPERM', async (subject) => {
          await refused(
            await subject.ready({ name: 'ro' }),
            { type: CMD.WRITE_ZEROES, length: 512 },
            1,
          );
        }),
        AS_REFERENCE,
        async (subject) => {
          const client = await subject.ready({ name: 'ro' });
          await refused(client, { type: CMD.WRITE_ZEROES, length: 512 }, NBD_EINVAL);
        },
      ),
    ],
  },
  {
    name: 'NBD_CMD_BLOCK_STATUS',
    rules: [
      should('Without a selected context it is NBD_EINVAL', async (subject) => {
        await refused(await subject.ready(), { type: CMD.BLOCK_STATUS, length: 512 }, NBD_EINVAL);
      }),
      should('With a context of another export it is NBD_EINVAL', async (subject) => {
        const client = await subject.greeted();
        await client.option(OPT.STRUCTURED_REPLY);
        await client.option(OPT.SET_META_CONTEXT, metaQuery('ro', contexts));
        await client.option(OPT.GO, infoRequest(''));
        await refused(client, { type: CMD.BLOCK_STATUS, length: 512 }, NBD_EINVAL);
      }),
      must('There is one chunk for each context, with its id', async (subject) => {
        const both = [...contexts, 'qemu:allocation-depth'];
        const client = await subject.ready({ name: BIG, contexts: both });
        const chunks = await chunksOf(client, { type: CMD.BLOCK_STATUS, length: MIB });
        assert.equal(chunks.length, 2);
        assert.equal(new Set(chunks.map(({ data }) => data.readUInt32BE())).size, 2);
      }),
      must(
        'A chunk is 4 bytes and a multiple of 8, at least one descriptor, each with a length',
        async (subject) => {
          for (const { length } of await status(await subject.ready({ contexts }), {
            length: SIZE,
          })) {
            assert.ok(length > 0);
          }
        },
      ),
      must('Only the last descriptor goes beyond the request', async (subject) => {
        const client = await subject.ready({ contexts });
        for (const length of [512, 100 * KIB, 200 * KIB]) {
          const before = (await status(client, { length })).slice(0, -1);
          assert.ok(before.reduce((sum, extent) => sum + extent.length, 0) < length);
        }
      }),
      must(
        'With NBD_CMD_FLAG_REQ_ONE there is one descriptor, no longer than the request',
        async (subject) => {
          const client = await subject.ready({ contexts });
          for (const length of [512, SIZE]) {
            const found = await status(client, { length }, FLAG.REQ_ONE);
            assert.ok(found.length === 1 && (found[0]?.length ?? 0) <= length);
          }
        },
      ),
      should('Neighbouring descriptors differ', async (subject) => {
        const found = await status(await subject.ready({ contexts }), { length: SIZE });
        for (const [index, { status: flag }] of found.entries()) {
          assert.notEqual(flag, found[index - 1]?.status);
        }
      }),
      should('Lengths of descriptors are multiples of 512', async (subject) => {
        for (const { length } of await status(await subject.ready({ contexts }), {
          length: SIZE,
        })) {
          assert.equal(length % 512, 0);
        }
      }),
      shouldNot('A chunk has more than 2^20 descriptors', async (subject) => {
        const found = await status(await subject.ready({ contexts }), { length: SIZE });
        assert.ok(found.length <= 2 ** 20);
      }),
      should('base:allocation has no flags but HOLE and ZERO', async (subject) => {
        for (const found of await status(await subject.ready({ contexts }), { length: SIZE })) {
          assert.equal(found.status & ~3, 0);
        }
      }),
      must('What base:allocation calls zero reads as zeroes', async (subject) => {
        const client = await subject.ready({ contexts });
        let at = 0;
        for (const { length, status: flag } of await status(client, { length: SIZE })) {
          const bytes = await readBack(client, at, Math.min(length, SIZE - at));
          if (flag & 2) assert.ok(bytes.equals(Buffer.alloc(bytes.length)));
          at += length;
        }
      }),
      should('Holes and zeroes that are easy to detect are reported', async (subject) => {
        const [first] = await status(await subject.ready({ contexts }), { length: 4096 });
        assert.equal(first?.status, 3);
      }),
    ],
  },
  {
    name: 'Error values',
    rules: [
      should('Only the errors of the list are sent', async (subject) => {
        const client = await subject.ready({ name: 'ro' });
        for (const request of [...writing, { type: CMD.READ, ...beyond }, { type: 99 }]) {
          assert.ok(knownErrors.includes(await errorFor(client, request)));
        }
      }),
      shouldNot('NBD_ENOTSUP comes for anything but NBD_CMD_FLAG_FAST_ZERO', async (subject) => {
        const client = await subject.ready();
        for (const type of [CMD.TRIM, CMD.CACHE, CMD.WRITE_ZEROES, CMD.BLOCK_STATUS, 8, 99]) {
          assert.notEqual(await errorFor(client, { type, length: 512 }), NBD_ENOTSUP);
        }
      }),
      shouldNot('NBD_ENOMEM comes for a request within the limits', async (subject) => {
        const client = await subject.ready({ name: BIG });
        assert.equal(await errorFor(client, { type: CMD.READ, length: 32 * MIB }), 0);
      }),
    ],
  },
];
