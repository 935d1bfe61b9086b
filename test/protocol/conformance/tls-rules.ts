// What the specification asks of a server that TLS is a must for.

import assert from 'node:assert/strict';
import { infoRequest, type NbdWireClient, OPT, REP } from '../nbd-wire-client.ts';
import { must, mustNot, type Section, should } from './rule.ts';

const none = Buffer.alloc(0);

/** Options that a client may try first, with data that would be good. */
const early: readonly (readonly [option: number, data: Buffer])[] = [
  [OPT.LIST, none],
  [OPT.INFO, infoRequest('')],
  [OPT.GO, infoRequest('')],
  [OPT.STRUCTURED_REPLY, none],
  [99, none],
];

async function answer(client: NbdWireClient, option: number, data?: Buffer): Promise<number> {
  return (await client.option(option, data)).at(-1)?.type ?? 0;
}

export const tlsSections: readonly Section[] = [
  {
    name: 'TLS support: FORCEDTLS mode',
    rules: [
      must('Every option before TLS is answered with NBD_REP_ERR_TLS_REQD', async (subject) => {
        const client = await subject.atTlsDoor();
        for (const [option, data] of early) {
          assert.equal(await answer(client, option, data), REP.ERR_TLS_REQD, `option ${option}`);
        }
      }),
      must('The client may begin TLS after such a refusal', async (subject) => {
        const client = await subject.atTlsDoor();
        assert.equal(await answer(client, OPT.LIST), REP.ERR_TLS_REQD);
        assert.equal(await answer(client, OPT.STARTTLS), REP.ACK);
        await subject.startTls(client);
        assert.equal(await answer(client, OPT.LIST), REP.ACK);
      }),
      must('NBD_OPT_EXPORT_NAME before TLS ends the session', async (subject) => {
        const client = await subject.atTlsDoor();
        client.sendOption(OPT.EXPORT_NAME, none);
        assert.equal((await client.receiveRest()).length, 0);
      }),
      should('NBD_OPT_ABORT before TLS ends the session in good order', async (subject) => {
        const client = await subject.atTlsDoor();
        const type = await answer(client, OPT.ABORT);
        assert.ok(type === REP.ACK || type === REP.ERR_TLS_REQD);
        assert.equal((await client.receiveRest()).length, 0);
      }),
      must('NBD_OPT_STARTTLS with data is invalid', async (subject) => {
        const client = await subject.atTlsDoor();
        assert.equal(await answer(client, OPT.STARTTLS, Buffer.from('x')), REP.ERR_INVALID);
      }),
      must('NBD_OPT_STARTTLS under TLS is invalid', async (subject) => {
        const client = await subject.secured();
        assert.equal(await answer(client, OPT.STARTTLS), REP.ERR_INVALID);
        assert.equal(await answer(client, OPT.LIST), REP.ACK);
      }),
      mustNot('Any option under TLS is answered with NBD_REP_ERR_TLS_REQD', async (subject) => {
        const client = await subject.secured();
        for (const [option, data] of early) {
          if (option === OPT.GO) continue;
          assert.notEqual(await answer(client, option, data), REP.ERR_TLS_REQD);
        }
      }),
      mustNot(
        'What was sent in the clear behind NBD_OPT_STARTTLS is taken for options',
        async (subject) => {
          const client = await subject.atTlsDoor();
          client.sendOption(OPT.STARTTLS);
          client.sendOption(OPT.LIST);
          assert.equal((await client.optionReply()).type, REP.ACK);
          // It is no beginning of TLS either: nothing but an alert may follow.
          const rest = await client.receiveRest();
          assert.ok(!rest.includes(Buffer.from('0003e889045565a9', 'hex')));
        },
      ),
      must('Exports can be used under TLS', async (subject) => {
        const client = await subject.secured();
        assert.equal(await answer(client, OPT.GO, infoRequest('ro')), REP.ACK);
        const [reply] = await client.request({ type: 0, length: 512 }, 512);
        assert.ok(reply?.kind === 'simple' && reply.error === 0 && reply.data.length === 512);
      }),
    ],
  },
];
