// The handshake: one test for each MUST of the specification that binds a server, and the reference's answers where the
// specification leaves a choice.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type NbdTestServer, startNbdTestServer } from './nbd-test-server.ts';
import {
  CMD,
  infoRequest,
  metaQuery,
  NbdWireClient,
  OPT,
  type OptionReply,
  REP,
  text,
  u16,
  u32,
} from './nbd-wire-client.ts';

const INFO = { EXPORT: 0, NAME: 1, DESCRIPTION: 2, BLOCK_SIZE: 3 } as const;

let server: NbdTestServer;
beforeAll(async () => {
  server = await startNbdTestServer();
});
afterAll(() => server.close());

async function withClient<T>(
  work: (client: NbdWireClient) => Promise<T>,
  clientFlags?: number,
): Promise<T> {
  const client = await NbdWireClient.greeted(server.path, clientFlags);
  try {
    return await work(client);
  } finally {
    client.close();
  }
}

/** The one reply to an option. */
function single(replies: readonly OptionReply[]): { type: number; text: string } {
  expect(replies).toHaveLength(1);
  const [reply] = replies;
  return { type: reply?.type ?? 0, text: reply?.data.toString() ?? '' };
}

/** An option refused with ERR_INVALID, and that the handshake goes on after it. */
async function expectInvalid(option: number, data: Buffer, message: string): Promise<void> {
  await withClient(async (client) => {
    expect(single(await client.option(option, data))).toEqual({
      type: REP.ERR_INVALID,
      text: message,
    });
    expect((await client.option(OPT.LIST)).at(-1)?.type).toBe(REP.ACK);
  });
}

describe('greeting', () => {
  it('is NBDMAGIC, IHAVEOPT and exactly the flags FIXED_NEWSTYLE and NO_ZEROES', async () => {
    const client = await NbdWireClient.connect(server.path);
    expect((await client.receive(18)).toString('latin1')).toBe('NBDMAGICIHAVEOPT\0\x03');
    client.close();
  });

  it('drops a client that sets an unknown flag', async () => {
    await withClient(async (client) => {
      expect(await client.receiveRest()).toHaveLength(0);
    }, 0x100);
    await server.logged('option negotiation failed: Unknown client flags 0x100 received');
  });
});

describe('options', () => {
  it('answers an option that it does not know with ERR_UNSUP and parses the next', async () => {
    await withClient(async (client) => {
      expect(single(await client.option(99, Buffer.alloc(5000)))).toEqual({
        type: REP.ERR_UNSUP,
        text: 'Unsupported option 99 (<unknown>)',
      });
      expect((await client.option(OPT.LIST)).at(-1)?.type).toBe(REP.ACK);
    });
  });

  it('answers an unknown option however long its data are, up to the limit', async () => {
    await withClient(async (client) => {
      const replies = await client.option(1000, Buffer.alloc(3 * 1024 * 1024));
      expect(single(replies).type).toBe(REP.ERR_UNSUP);
    });
  });

  it('drops a client whose option is longer than 32 MiB', async () => {
    await withClient(async (client) => {
      client.sendOption(OPT.LIST, Buffer.alloc(0), 32 * 1024 * 1024 + 1);
      expect(await client.receiveRest()).toHaveLength(0);
    });
    await server.logged('len (33554433 ) is larger than max len (33554432)');
  });

  it('drops a client whose option has a wrong magic', async () => {
    await withClient(async (client) => {
      client.send(Buffer.from('IHAVEOPX'), u32(OPT.LIST), u32(0));
      expect(await client.receiveRest()).toHaveLength(0);
    });
    await server.logged('option negotiation failed: Bad magic received');
  });

  it('takes only EXPORT_NAME from a client that is not of the fixed newstyle', async () => {
    await withClient(async (client) => {
      client.sendOption(OPT.LIST);
      expect(await client.receiveRest()).toHaveLength(0);
    }, 0);
    await server.logged('option negotiation failed: Unsupported option 3 (list)');
  });

  it('accepts options byte by byte', async () => {
    await withClient(async (client) => {
      for (const byte of Buffer.concat([Buffer.from('IHAVEOPT'), u32(OPT.LIST), u32(0)])) {
        client.send(Buffer.from([byte]));
      }
      expect((await client.optionReply()).type).toBe(REP.SERVER);
    });
  });

  it('answers many options sent at once, each in turn', async () => {
    await withClient(async (client) => {
      for (let index = 0; index < 3000; index++) client.sendOption(1000 + index);
      for (let index = 0; index < 3000; index++) {
        expect((await client.optionReply()).option).toBe(1000 + index);
      }
    });
  });
});

describe('NBD_OPT_EXPORT_NAME', () => {
  it('ends the session when there is no such export', async () => {
    await withClient(async (client) => {
      client.sendOption(OPT.EXPORT_NAME, Buffer.from('nope'));
      expect(await client.receiveRest()).toHaveLength(0);
    });
    await server.logged('option negotiation failed: export not found');
  });

  it('sends no zeroes after NO_ZEROES', async () => {
    await withClient(async (client) => {
      client.sendOption(OPT.EXPORT_NAME, Buffer.from('ro'));
      expect((await client.receive(10)).toString('hex')).toBe('0000000000100000050f');
      const [reply] = await client.request({ type: CMD.READ, length: 4 }, 4);
      expect(reply).toMatchObject({ kind: 'simple', error: 0 });
    }, 3);
  });

  it('sends 124 zeroes to a client without NO_ZEROES, be it of the fixed newstyle or not', async () => {
    for (const flags of [0, 1]) {
      await withClient(async (client) => {
        client.sendOption(OPT.EXPORT_NAME, Buffer.from('ro'));
        expect((await client.receive(134)).subarray(10)).toEqual(Buffer.alloc(124));
      }, flags);
    }
  });

  it('drops a client whose name is longer than 4096 bytes', async () => {
    await withClient(async (client) => {
      client.sendOption(OPT.EXPORT_NAME, Buffer.alloc(4097, 'x'));
      expect(await client.receiveRest()).toHaveLength(0);
    });
    await server.logged('option negotiation failed: Bad length received');
  });
});

describe('NBD_OPT_ABORT', () => {
  it('is acknowledged, with data or without, and ends the session', async () => {
    for (const data of [Buffer.alloc(0), Buffer.from('why')]) {
      await withClient(async (client) => {
        expect(single(await client.option(OPT.ABORT, data)).type).toBe(REP.ACK);
        expect(await client.receiveRest()).toHaveLength(0);
      });
    }
  });
});

describe('NBD_OPT_LIST', () => {
  it('names each export, with its description, in the order of creation', async () => {
    await withClient(async (client) => {
      const replies = await client.option(OPT.LIST);
      expect(replies.map((reply) => [reply.type, reply.data.toString('latin1')])).toEqual([
        [REP.SERVER, '\0\0\0\0hello'],
        [REP.SERVER, '\0\0\0\x02ro'],
        [REP.ACK, ''],
      ]);
    });
  });

  it('refuses data', () =>
    expectInvalid(OPT.LIST, Buffer.from('x'), "option 'list' has unexpected length"));
});

describe('NBD_OPT_STARTTLS', () => {
  it('is answered with ERR_POLICY by a server without TLS', async () => {
    await withClient(async (client) => {
      expect(single(await client.option(OPT.STARTTLS))).toEqual({
        type: REP.ERR_POLICY,
        text: 'TLS not configured',
      });
    });
  });

  it('refuses data', () =>
    expectInvalid(OPT.STARTTLS, Buffer.from('x'), "option 'starttls' has unexpected length"));
});

describe('NBD_OPT_STRUCTURED_REPLY', () => {
  it('is acknowledged once, and shows in the transmission flags', async () => {
    await withClient(async (client) => {
      expect(single(await client.option(OPT.STRUCTURED_REPLY)).type).toBe(REP.ACK);
      expect(single(await client.option(OPT.STRUCTURED_REPLY))).toEqual({
        type: REP.ERR_INVALID,
        text: 'structured reply already negotiated',
      });
      const replies = await client.option(OPT.GO, infoRequest(''));
      expect(replies.at(-2)?.data.toString('hex')).toBe('000000000000001000000ded');
    });
  });

  it('refuses data', () =>
    expectInvalid(
      OPT.STRUCTURED_REPLY,
      Buffer.from('x'),
      "option 'structured reply' has unexpected length",
    ));
});

describe('NBD_OPT_INFO and NBD_OPT_GO', () => {
  it('send NBD_INFO_EXPORT before the acknowledgement, and what is worth knowing before that', async () => {
    await withClient(async (client) => {
      const replies = await client.option(OPT.INFO, infoRequest(''));
      expect(replies.map((reply) => [reply.type, reply.data.toString('hex')])).toEqual([
        [REP.INFO, `0002${Buffer.from('hello').toString('hex')}`],
        [REP.INFO, '0003000000010000100002000000'],
        [REP.INFO, '000000000000001000000d6d'],
        [REP.ACK, ''],
      ]);
    });
  });

  it('give the same answer, whichever was asked first', async () => {
    await withClient(async (client) => {
      const data = infoRequest('ro', [INFO.NAME, INFO.BLOCK_SIZE]);
      const info = await client.option(OPT.INFO, data);
      const go = await client.option(OPT.GO, data);
      expect(go.map(({ type, data: bytes }) => [type, bytes])).toEqual(
        info.map(({ type, data: bytes }) => [type, bytes]),
      );
    });
  });

  it('send the name only when asked, and ignore requests that they do not understand', async () => {
    await withClient(async (client) => {
      const replies = await client.option(OPT.INFO, infoRequest('ro', [INFO.NAME, 99]));
      expect(replies[0]?.data.toString('latin1')).toBe('\0\x01ro');
      expect(replies.at(-1)?.type).toBe(REP.ACK);
    });
  });

  it('answer ERR_UNKNOWN for an export that is not there, and the handshake goes on', async () => {
    await withClient(async (client) => {
      for (const option of [OPT.INFO, OPT.GO]) {
        expect(single(await client.option(option, infoRequest('nope')))).toEqual({
          type: REP.ERR_UNKNOWN,
          text: "export 'nope' not present",
        });
      }
    });
  });

  it('cut a long unknown name in their text', async () => {
    await withClient(async (client) => {
      const reply = single(await client.option(OPT.GO, infoRequest('n'.repeat(4096))));
      expect(reply.text).toBe(`export '${'n'.repeat(80)}...' not present`);
      const shorter = single(await client.option(OPT.GO, infoRequest('n'.repeat(79))));
      expect(shorter.text).toBe(`export '${'n'.repeat(79)}' not present`);
    });
  });

  it('echo a name that is not UTF-8 byte for byte', async () => {
    await withClient(async (client) => {
      const [reply] = await client.option(OPT.GO, infoRequest(Buffer.from([0xff, 0xc3])));
      expect(reply?.data.toString('latin1')).toBe("export '\xff\xc3' not present");
    });
  });

  it('send no zeroes after the acknowledgement of GO', async () => {
    await withClient(async (client) => {
      await client.option(OPT.GO, infoRequest(''));
      const [reply] = await client.request({ type: CMD.FLUSH });
      expect(reply).toMatchObject({ kind: 'simple', error: 0 });
    }, 1);
  });

  const inconsistent = 'Inconsistent lengths in option go';
  it.each([
    ['no name length', u16(0), inconsistent],
    ['a name longer than the data', Buffer.concat([u32(5), Buffer.from('ab')]), inconsistent],
    ['no number of requests', text(''), inconsistent],
    ['fewer requests than announced', Buffer.concat([text(''), u16(2), u16(1)]), inconsistent],
    [
      'data behind the last request',
      Buffer.concat([infoRequest(''), Buffer.from('x')]),
      "option 'go' has unexpected length",
    ],
    ['a name of more than 4096 bytes', infoRequest('n'.repeat(4097)), 'Invalid name length: 4097'],
    ['a NUL in the name', infoRequest('a\0b'), 'Unexpected embedded NUL in option go'],
  ])('refuse %s', (_what, data, message) => expectInvalid(OPT.GO, data, message));
});

describe('NBD_OPT_LIST_META_CONTEXT', () => {
  async function listed(queries: readonly string[]): Promise<string[]> {
    return withClient(async (client) => {
      const replies = await client.option(OPT.LIST_META_CONTEXT, metaQuery('', queries));
      return replies.map((reply) => `${reply.type} ${reply.data.toString('latin1')}`);
    });
  }
  const found = ['4 \0\0\0\0base:allocation', '1 '];

  it('returns every context when there is no query, even before structured replies', async () => {
    expect(await listed([])).toEqual(found);
  });

  it('takes base: for all contexts of the namespace', async () => {
    expect(await listed(['base:'])).toEqual(found);
  });

  it('ignores unknown namespaces and names, long queries, and a query made twice', async () => {
    expect(await listed(['foo:bar', 'x', 'qemu:', 'base:other'])).toEqual(['1 ']);
    expect(await listed(['x'.repeat(5000), 'base:allocation', 'base:allocation'])).toEqual(found);
  });

  it('answers ERR_UNKNOWN for an export that is not there', async () => {
    await withClient(async (client) => {
      const data = metaQuery('nope', ['base:']);
      expect(single(await client.option(OPT.LIST_META_CONTEXT, data)).type).toBe(REP.ERR_UNKNOWN);
    });
  });

  it('refuses a query that is longer than the data', () =>
    expectInvalid(
      OPT.LIST_META_CONTEXT,
      Buffer.concat([text(''), u32(2), text('base:')]),
      'Inconsistent lengths in option list meta context',
    ));

  it('takes thousands of queries', async () => {
    const queries = Array.from({ length: 5000 }, (_, index) => `foo:${index}`);
    expect(await listed([...queries, 'base:allocation'])).toEqual(found);
  });
});

describe('NBD_OPT_SET_META_CONTEXT', () => {
  it('needs structured replies', () =>
    expectInvalid(
      OPT.SET_META_CONTEXT,
      metaQuery('', ['base:allocation']),
      "request option 'set meta context' when structured reply is not negotiated",
    ));

  it('selects nothing for no query, and does not take base: for a name', async () => {
    await withClient(async (client) => {
      await client.option(OPT.STRUCTURED_REPLY);
      for (const queries of [[], ['base:'], ['']]) {
        const replies = await client.option(OPT.SET_META_CONTEXT, metaQuery('', queries));
        expect(single(replies).type).toBe(REP.ACK);
      }
    });
  });

  it('sends each selected context once', async () => {
    await withClient(async (client) => {
      await client.option(OPT.STRUCTURED_REPLY);
      const queries = ['base:allocation', 'base:allocation'];
      const replies = await client.option(OPT.SET_META_CONTEXT, metaQuery('', queries));
      expect(replies.map((reply) => reply.data.toString('latin1'))).toEqual([
        '\0\0\0\0base:allocation',
        '',
      ]);
    });
  });
});
