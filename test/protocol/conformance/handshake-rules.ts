// What the specification asks of a server's handshake.

import assert from 'node:assert/strict';
import {
  CMD,
  infoRequest,
  metaQuery,
  type NbdWireClient,
  OPT,
  type OptionReply,
  REP,
  text,
  u16,
  u32,
} from '../nbd-wire-client.ts';
import { must, mustNot, type Section, should, shouldNot } from './rule.ts';
import { BIG, DESCRIPTION } from './subject-server.ts';

const none = Buffer.alloc(0);
const INFO = { EXPORT: 0, NAME: 1, DESCRIPTION: 2, BLOCK_SIZE: 3 } as const;
const ERROR = 0x80000000;
const TLS_REQD = 0x80000005;
const MAX_STRING = 4096;

/** An option that ends in an error of this type; the handshake goes on. */
async function refused(
  client: NbdWireClient,
  option: number,
  data: Buffer,
  type: number,
): Promise<void> {
  const replies = await client.option(option, data);
  assert.equal(replies.at(-1)?.type, type);
  await goesOn(client);
}

async function goesOn(client: NbdWireClient): Promise<void> {
  assert.equal((await client.option(OPT.LIST)).at(-1)?.type, REP.ACK);
}

async function ends(client: NbdWireClient): Promise<void> {
  assert.equal((await client.receiveRest()).length, 0);
}

/** The one piece of information of this kind. */
function info(replies: readonly OptionReply[], kind: number): Buffer | undefined {
  const found = replies.filter(
    ({ type, data }) => type === REP.INFO && data.readUInt16BE() === kind,
  );
  assert.ok(found.length <= 1, `NBD_REP_INFO ${kind} came ${found.length} times`);
  return found[0]?.data;
}

function needed(bytes: Buffer | undefined): Buffer {
  assert.ok(bytes !== undefined, 'the information is missing');
  return bytes;
}

async function blockSizes(
  client: NbdWireClient,
): Promise<{ min: number; best: number; max: number }> {
  const replies = await client.option(OPT.INFO, infoRequest('', [INFO.BLOCK_SIZE]));
  const data = needed(info(replies, INFO.BLOCK_SIZE));
  assert.equal(data.length, 14);
  return { min: data.readUInt32BE(2), best: data.readUInt32BE(6), max: data.readUInt32BE(10) };
}

const powerOfTwo = (value: number): boolean => Number.isInteger(Math.log2(value));

async function structured(client: NbdWireClient): Promise<NbdWireClient> {
  assert.equal((await client.option(OPT.STRUCTURED_REPLY)).at(-1)?.type, REP.ACK);
  return client;
}

/** The names of the contexts that a query finds. */
async function contexts(
  client: NbdWireClient,
  option: number,
  queries: readonly string[],
  name = '',
): Promise<{ id: number; name: string }[]> {
  const replies = await client.option(option, metaQuery(name, queries));
  assert.equal(replies.at(-1)?.type, REP.ACK);
  return replies.slice(0, -1).map(({ type, data }) => {
    assert.equal(type, REP.META_CONTEXT);
    return { id: data.readUInt32BE(), name: data.toString('utf8', 4) };
  });
}

const names = (found: readonly { name: string }[]): string[] => found.map(({ name }) => name);

export const handshakeSections: readonly Section[] = [
  {
    name: 'Newstyle negotiation',
    rules: [
      must('The greeting is NBDMAGIC, IHAVEOPT and 16 bits of flags', async (subject) => {
        const client = await subject.connect();
        assert.equal((await client.receive(16)).toString('latin1'), 'NBDMAGICIHAVEOPT');
        await client.receive(2);
      }),
      must(
        'A client that sets a flag the server does not know is disconnected',
        async (subject) => {
          for (const flags of [4, 0x80000000]) await ends(await subject.greeted(flags));
        },
      ),
      must('A client that is not to have the export it names is disconnected', async (subject) => {
        const client = await subject.greeted();
        client.sendOption(OPT.EXPORT_NAME, Buffer.from('nope'));
        await ends(client);
      }),
    ],
  },
  {
    name: 'Handshake flags and client flags',
    rules: [
      must('NBD_FLAG_FIXED_NEWSTYLE is set', async (subject) => {
        const client = await subject.connect();
        assert.equal((await client.receive(18)).readUInt16BE(16) & 1, 1);
      }),
      mustNot('Flags other than FIXED_NEWSTYLE and NO_ZEROES are set', async (subject) => {
        const client = await subject.connect();
        assert.equal((await client.receive(18)).readUInt16BE(16) & ~3, 0);
      }),
      mustNot(
        'Zeroes follow NBD_OPT_EXPORT_NAME when both sides said NO_ZEROES',
        async (subject) => {
          const client = await subject.greeted(3);
          client.sendOption(OPT.EXPORT_NAME, none);
          await client.receive(10);
          assert.equal((await client.request({ type: CMD.FLUSH }))[0]?.kind, 'simple');
        },
      ),
      must('124 zeroes follow NBD_OPT_EXPORT_NAME otherwise', async (subject) => {
        const client = await subject.greeted(1);
        client.sendOption(OPT.EXPORT_NAME, none);
        assert.deepEqual((await client.receive(134)).subarray(10), Buffer.alloc(124));
        assert.equal((await client.request({ type: CMD.FLUSH }))[0]?.kind, 'simple');
      }),
    ],
  },
  {
    name: 'Fixed newstyle negotiation',
    rules: [
      must('Replies carry their magic and the option that they answer', async (subject) => {
        const client = await subject.greeted();
        for (const option of [OPT.LIST, OPT.INFO, OPT.STRUCTURED_REPLY, 99]) {
          const data = option === OPT.INFO ? infoRequest('') : none;
          for (const reply of await client.option(option, data)) assert.equal(reply.option, option);
        }
      }),
      must('An option that is not known is answered with NBD_REP_ERR_UNSUP', async (subject) => {
        for (const option of [0, 4, 99, 0xffffffff]) {
          await refused(await subject.greeted(), option, none, REP.ERR_UNSUP);
        }
      }),
      mustNot(
        'The option behind an unknown one is misread, whatever data that one had',
        async (subject) => {
          for (const length of [1, 16, 5000, 1024 * 1024]) {
            await refused(
              await subject.greeted(),
              99,
              Buffer.alloc(length, 'IHAVEOPT'),
              REP.ERR_UNSUP,
            );
          }
        },
      ),
      must('An acknowledgement has no data', async (subject) => {
        const client = await subject.greeted();
        for (const option of [OPT.LIST, OPT.STRUCTURED_REPLY, OPT.ABORT]) {
          assert.equal((await client.option(option)).at(-1)?.data.length, 0);
        }
      }),
      must(
        'The data of an error are a string: UTF-8, no NUL, at most 4096 bytes',
        async (subject) => {
          const client = await subject.greeted();
          for (const name of ['nope', 'n'.repeat(MAX_STRING), 'ü'.repeat(2000)]) {
            const [reply] = await client.option(OPT.INFO, infoRequest(name));
            const data = reply?.data ?? none;
            assert.ok(data.length <= MAX_STRING && !data.includes(0));
            if (name === 'nope') new TextDecoder('utf8', { fatal: true }).decode(data);
          }
        },
      ),
      must('The session is not ended by an option that can be refused', async (subject) => {
        const client = await subject.greeted();
        await refused(client, OPT.LIST, Buffer.from('x'), REP.ERR_INVALID);
        await refused(client, OPT.INFO, infoRequest('nope'), REP.ERR_UNKNOWN);
        await refused(client, 99, none, REP.ERR_UNSUP);
      }),
    ],
  },
  {
    name: 'TLS support: NOTLS mode',
    rules: [
      must('NBD_OPT_STARTTLS is refused as a matter of policy, or as unknown', async (subject) => {
        const client = await subject.greeted();
        const [reply] = await client.option(OPT.STARTTLS);
        assert.ok(reply?.type === REP.ERR_POLICY || reply?.type === REP.ERR_UNSUP);
        await goesOn(client);
      }),
      mustNot('Any option is answered with NBD_REP_ERR_TLS_REQD', async (subject) => {
        const client = await subject.greeted();
        for (let option = 3; option < 14; option++) {
          const data = option === OPT.INFO ? infoRequest('nope') : none;
          if (option === OPT.GO) continue;
          for (const { type } of await client.option(option, data)) assert.notEqual(type, TLS_REQD);
        }
      }),
      must('NBD_OPT_STARTTLS with data gets an error that is permitted', async (subject) => {
        const client = await subject.greeted();
        const [reply] = await client.option(OPT.STARTTLS, Buffer.from('x'));
        assert.ok(
          [REP.ERR_INVALID, REP.ERR_POLICY, REP.ERR_UNSUP].some((type) => type === reply?.type),
        );
        await goesOn(client);
      }),
    ],
  },
  {
    name: 'NBD_OPT_EXPORT_NAME',
    rules: [
      must('It is followed by size, flags and the transmission phase', async (subject) => {
        const client = await subject.greeted();
        client.sendOption(OPT.EXPORT_NAME, Buffer.from('ro'));
        const reply = await client.receive(10);
        assert.equal(reply.readBigUInt64BE(), 1024n * 1024n);
        assert.equal(reply.readUInt16BE(8) & 1, 1);
      }),
      should('The empty name is the default export', async (subject) => {
        const client = await subject.greeted();
        client.sendOption(OPT.EXPORT_NAME, none);
        assert.equal((await client.receive(10)).readBigUInt64BE(), 1024n * 1024n);
      }),
      must('It works for a client that is not of the fixed newstyle', async (subject) => {
        const client = await subject.greeted(0);
        client.sendOption(OPT.EXPORT_NAME, none);
        assert.equal((await client.receive(134)).readBigUInt64BE(), 1024n * 1024n);
      }),
    ],
  },
  {
    name: 'NBD_OPT_ABORT',
    rules: [
      must('It is acknowledged', async (subject) => {
        const client = await subject.greeted();
        assert.equal((await client.option(OPT.ABORT)).at(-1)?.type, REP.ACK);
        await ends(client);
      }),
      should('Data that come with it are ignored', async (subject) => {
        const client = await subject.greeted();
        assert.equal((await client.option(OPT.ABORT, Buffer.alloc(100))).at(-1)?.type, REP.ACK);
      }),
      should(
        'A client that does not wait for the acknowledgement harms nobody',
        async (subject) => {
          const client = await subject.greeted();
          client.sendOption(OPT.ABORT);
          client.close();
          await goesOn(await subject.greeted());
        },
      ),
    ],
  },
  {
    name: 'NBD_OPT_LIST',
    rules: [
      must('Each export is listed once, then comes the acknowledgement', async (subject) => {
        const replies = await (await subject.greeted()).option(OPT.LIST);
        const listed = replies.slice(0, -1).map(({ type, data }) => {
          assert.equal(type, REP.SERVER);
          return data.toString('utf8', 4, 4 + data.readUInt32BE());
        });
        assert.deepEqual(listed, ['', 'ro', BIG]);
        assert.equal(replies.at(-1)?.type, REP.ACK);
      }),
      must('The length of a name is at most that of the reply less 4', async (subject) => {
        for (const { type, data } of await (await subject.greeted()).option(OPT.LIST)) {
          if (type === REP.SERVER) assert.ok(data.readUInt32BE() <= data.length - 4);
        }
      }),
      should('Data that come with it are refused with NBD_REP_ERR_INVALID', async (subject) => {
        await refused(await subject.greeted(), OPT.LIST, Buffer.from('x'), REP.ERR_INVALID);
      }),
    ],
  },
  {
    name: 'NBD_OPT_INFO and NBD_OPT_GO',
    rules: [
      must('NBD_INFO_EXPORT, of 12 bytes, comes before the acknowledgement', async (subject) => {
        for (const option of [OPT.INFO, OPT.GO]) {
          const replies = await (await subject.greeted()).option(option, infoRequest(''));
          assert.equal(replies.at(-1)?.type, REP.ACK);
          assert.equal(needed(info(replies, INFO.EXPORT)).length, 12);
        }
      }),
      must('Information that is not understood is ignored when asked for', async (subject) => {
        const data = infoRequest('', [0x7777, 0xffff]);
        const replies = await (await subject.greeted()).option(OPT.GO, data);
        assert.equal(replies.at(-1)?.type, REP.ACK);
      }),
      should('An information type comes once only', async (subject) => {
        const data = infoRequest('', [0, 1, 2, 3]);
        const replies = await (await subject.greeted()).option(OPT.INFO, data);
        for (const kind of Object.values(INFO)) needed(info(replies, kind));
      }),
      must('An export that is not there is NBD_REP_ERR_UNKNOWN', async (subject) => {
        const client = await subject.greeted();
        await refused(client, OPT.INFO, infoRequest('nope'), REP.ERR_UNKNOWN);
        await refused(client, OPT.GO, infoRequest('nope'), REP.ERR_UNKNOWN);
      }),
      shouldNot('Information comes about an export that is not there', async (subject) => {
        const replies = await (await subject.greeted()).option(
          OPT.INFO,
          infoRequest('nope', [1, 3]),
        );
        assert.equal(replies.length, 1);
      }),
      must('The length of the name is at most that of the data less 6', async (subject) => {
        const client = await subject.greeted();
        for (const length of [1, 3, 0xffffffff]) {
          await refused(client, OPT.INFO, Buffer.concat([u32(length), u16(0)]), REP.ERR_INVALID);
        }
      }),
      must('A name of more than 4096 bytes, or with NUL, is refused', async (subject) => {
        const client = await subject.greeted();
        for (const name of ['n'.repeat(MAX_STRING + 1), 'a\0b']) {
          await refused(client, OPT.INFO, infoRequest(name), REP.ERR_INVALID);
        }
      }),
      must('GO after INFO with the same parameters gives the same information', async (subject) => {
        const client = await subject.greeted();
        const data = infoRequest('ro', [1, 3]);
        const told = async (option: number): Promise<string[]> =>
          (await client.option(option, data)).map((reply) => reply.data.toString('hex'));
        const before = await told(OPT.INFO);
        assert.deepEqual((await told(OPT.GO)).toSorted(), before.toSorted());
      }),
      must('Information equals what NBD_OPT_EXPORT_NAME tells', async (subject) => {
        const client = await subject.greeted();
        const told = needed(info(await client.option(OPT.INFO, infoRequest('ro')), INFO.EXPORT));
        client.sendOption(OPT.EXPORT_NAME, Buffer.from('ro'));
        assert.deepEqual(await client.receive(10), told.subarray(2));
      }),
      mustNot(
        'Zeroes follow the acknowledgement of GO, whatever the client flags',
        async (subject) => {
          for (const flags of [1, 3]) {
            const client = await subject.greeted(flags);
            await client.option(OPT.GO, infoRequest(''));
            assert.equal((await client.request({ type: CMD.FLUSH }))[0]?.kind, 'simple');
          }
        },
      ),
      must('NBD_INFO_NAME is the name as NBD_OPT_LIST gives it', async (subject) => {
        const replies = await (await subject.greeted()).option(OPT.INFO, infoRequest('ro', [1]));
        assert.equal(needed(info(replies, INFO.NAME)).toString('utf8', 2), 'ro');
      }),
      must('NBD_INFO_DESCRIPTION is the description as NBD_OPT_LIST gives it', async (subject) => {
        const client = await subject.greeted();
        const replies = await client.option(OPT.INFO, infoRequest('', [2]));
        assert.equal(needed(info(replies, INFO.DESCRIPTION)).toString('utf8', 2), DESCRIPTION);
        const [first] = await client.option(OPT.LIST);
        assert.equal(first?.data.toString('utf8', 4), DESCRIPTION);
      }),
      mustNot(
        'NBD_REP_ERR_BLOCK_SIZE_REQD comes when block sizes were asked for',
        async (subject) => {
          const replies = await (await subject.greeted()).option(OPT.GO, infoRequest('', [3]));
          assert.equal(replies.at(-1)?.type, REP.ACK);
        },
      ),
      shouldNot(
        'NBD_REP_ERR_BLOCK_SIZE_REQD comes where sizes are the default',
        async (subject) => {
          const replies = await (await subject.greeted()).option(OPT.GO, infoRequest(''));
          assert.equal(replies.at(-1)?.type, REP.ACK);
        },
      ),
      must('A client may ask again after an error', async (subject) => {
        const client = await subject.greeted();
        await client.option(OPT.GO, infoRequest('nope'));
        assert.equal((await client.option(OPT.GO, infoRequest(''))).at(-1)?.type, REP.ACK);
      }),
    ],
  },
  {
    name: 'Size constraints',
    rules: [
      should('NBD_INFO_BLOCK_SIZE, of 14 bytes, is sent when asked for', async (subject) => {
        await blockSizes(await subject.greeted());
      }),
      must('The minimum block size is a power of 2 of at most 65536', async (subject) => {
        const { min } = await blockSizes(await subject.greeted());
        assert.ok(powerOfTwo(min) && min <= 65_536);
      }),
      must(
        'The preferred block size is a power of 2, at least the minimum and 512',
        async (subject) => {
          const { min, best } = await blockSizes(await subject.greeted());
          assert.ok(powerOfTwo(best) && best >= Math.max(min, 512));
        },
      ),
      must('The maximum payload is at least the preferred block size', async (subject) => {
        const { best, max } = await blockSizes(await subject.greeted());
        assert.ok(max >= best);
      }),
      should('The maximum payload is at least 1 MiB', async (subject) => {
        assert.ok((await blockSizes(await subject.greeted())).max >= 1024 * 1024);
      }),
      should('The size of the export is a multiple of the minimum block size', async (subject) => {
        const client = await subject.greeted();
        const { min } = await blockSizes(client);
        const replies = await client.option(OPT.INFO, infoRequest('', [3]));
        const size = needed(info(replies, INFO.EXPORT)).readBigUInt64BE(2);
        assert.equal(size % BigInt(min), 0n);
      }),
    ],
  },
  {
    name: 'NBD_OPT_STRUCTURED_REPLY',
    rules: [
      must(
        'It is acknowledged, and reads are answered with chunks from then on',
        async (subject) => {
          const client = await structured(await subject.greeted());
          await client.option(OPT.GO, infoRequest(''));
          assert.equal((await client.request({ type: CMD.READ, length: 512 }))[0]?.kind, 'chunk');
        },
      ),
      should('Data that come with it are refused with NBD_REP_ERR_INVALID', async (subject) => {
        const client = await subject.greeted();
        await refused(client, OPT.STRUCTURED_REPLY, Buffer.from('x'), REP.ERR_INVALID);
      }),
      shouldNot('What needs structured replies is advertised before them', async (subject) => {
        const client = await subject.greeted();
        const replies = await client.option(OPT.INFO, infoRequest(''));
        assert.equal(needed(info(replies, INFO.EXPORT)).readUInt16BE(10) & 0x80, 0);
      }),
    ],
  },
  {
    name: 'NBD_OPT_LIST_META_CONTEXT',
    rules: [
      must('Without a query every context of the export is returned', async (subject) => {
        const client = await structured(await subject.greeted());
        const all = names(await contexts(client, OPT.LIST_META_CONTEXT, [], BIG));
        assert.deepEqual(all.toSorted(), ['base:allocation', 'qemu:allocation-depth']);
      }),
      must('Only contexts that match a query are returned', async (subject) => {
        const client = await structured(await subject.greeted());
        const queries = ['base:allocation'];
        assert.deepEqual(
          names(await contexts(client, OPT.LIST_META_CONTEXT, queries, BIG)),
          queries,
        );
      }),
      must('Queries of an unknown namespace are ignored', async (subject) => {
        const client = await structured(await subject.greeted());
        const queries = ['x-unknown:', 'nbd-server:a', 'base:allocation'];
        const found = await contexts(client, OPT.LIST_META_CONTEXT, queries);
        assert.deepEqual(names(found), ['base:allocation']);
      }),
      must('When nothing matches the only reply is the acknowledgement', async (subject) => {
        const client = await structured(await subject.greeted());
        assert.deepEqual(await contexts(client, OPT.LIST_META_CONTEXT, ['x-unknown:']), []);
      }),
      must('A query that is longer than the data is NBD_REP_ERR_INVALID', async (subject) => {
        const client = await structured(await subject.greeted());
        const data = Buffer.concat([text(''), u32(1), u32(100), Buffer.from('base:')]);
        await refused(client, OPT.LIST_META_CONTEXT, data, REP.ERR_INVALID);
      }),
      must('Fewer queries than announced are NBD_REP_ERR_INVALID', async (subject) => {
        const client = await structured(await subject.greeted());
        const data = Buffer.concat([text(''), u32(2), text('base:')]);
        await refused(client, OPT.LIST_META_CONTEXT, data, REP.ERR_INVALID);
      }),
      should('The ids in the list are 0', async (subject) => {
        const client = await structured(await subject.greeted());
        for (const { id } of await contexts(client, OPT.LIST_META_CONTEXT, [], BIG)) {
          assert.equal(id, 0);
        }
      }),
      must('Names are a namespace, a colon and a string of at most 4096 bytes', async (subject) => {
        const client = await structured(await subject.greeted());
        for (const { name } of await contexts(client, OPT.LIST_META_CONTEXT, [], BIG)) {
          assert.match(name, /^[^:\s]+:[^\0]*$/);
        }
      }),
      shouldNot('The list is too big when nothing is queried', async (subject) => {
        const client = await structured(await subject.greeted());
        const replies = await client.option(OPT.LIST_META_CONTEXT, metaQuery('', []));
        assert.ok((replies.at(-1)?.type ?? ERROR) < ERROR);
      }),
    ],
  },
  {
    name: 'NBD_OPT_SET_META_CONTEXT',
    rules: [
      should('Without structured replies it is NBD_REP_ERR_INVALID', async (subject) => {
        const data = metaQuery('', ['base:allocation']);
        await refused(await subject.greeted(), OPT.SET_META_CONTEXT, data, REP.ERR_INVALID);
      }),
      must('Each selected context is returned, with an id of its own', async (subject) => {
        const client = await structured(await subject.greeted());
        const queries = ['base:allocation', 'qemu:allocation-depth'];
        const found = await contexts(client, OPT.SET_META_CONTEXT, queries, BIG);
        assert.deepEqual(names(found).toSorted(), queries);
        assert.equal(new Set(found.map(({ id }) => id)).size, 2);
      }),
      must('No query selects nothing', async (subject) => {
        const client = await structured(await subject.greeted());
        assert.deepEqual(await contexts(client, OPT.SET_META_CONTEXT, []), []);
      }),
      must('What was selected before is replaced', async (subject) => {
        const client = await structured(await subject.greeted());
        await contexts(client, OPT.SET_META_CONTEXT, ['base:allocation']);
        await contexts(client, OPT.SET_META_CONTEXT, []);
        await client.option(OPT.GO, infoRequest(''));
        const [reply] = await client.request({ type: CMD.BLOCK_STATUS, length: 512 });
        assert.ok(reply?.kind === 'chunk' && reply.type === 0x8001);
      }),
      must('What was selected before is replaced by an option that fails', async (subject) => {
        const client = await structured(await subject.greeted());
        await contexts(client, OPT.SET_META_CONTEXT, ['base:allocation']);
        await client.option(OPT.SET_META_CONTEXT, metaQuery('nope', ['base:allocation']));
        await client.option(OPT.GO, infoRequest(''));
        const [reply] = await client.request({ type: CMD.BLOCK_STATUS, length: 512 });
        assert.ok(reply?.kind === 'chunk' && reply.type === 0x8001);
      }),
      must('Data that are cut short are NBD_REP_ERR_INVALID', async (subject) => {
        const client = await structured(await subject.greeted());
        const data = Buffer.concat([text(''), u32(1), u32(100)]);
        await refused(client, OPT.SET_META_CONTEXT, data, REP.ERR_INVALID);
      }),
    ],
  },
  {
    name: 'The base: metadata namespace',
    rules: [
      must('base: is a wildcard when listing', async (subject) => {
        const client = await structured(await subject.greeted());
        const found = await contexts(client, OPT.LIST_META_CONTEXT, ['base:']);
        assert.deepEqual(names(found), ['base:allocation']);
      }),
      must('base: is ignored when selecting', async (subject) => {
        const client = await structured(await subject.greeted());
        assert.deepEqual(await contexts(client, OPT.SET_META_CONTEXT, ['base:']), []);
      }),
      must('An unknown name in base: is ignored, not refused', async (subject) => {
        const client = await structured(await subject.greeted());
        for (const option of [OPT.LIST_META_CONTEXT, OPT.SET_META_CONTEXT]) {
          assert.deepEqual(await contexts(client, option, ['base:other']), []);
        }
      }),
    ],
  },
];
