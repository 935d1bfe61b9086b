// Lets a client meet a server that breaks a rule, and tells what came of it.

import { join } from 'node:path';
import {
  BLOCK_STATUS,
  CONTEXT_ID,
  DISC,
  FLUSH,
  READ,
  type Script,
  ScriptedServer,
  type SeenRequest,
  WRITE,
} from '../../unit/block/drivers/nbd/scripted-server.ts';
import {
  ABORT,
  chunk,
  extendedChunk,
  extents,
  simple,
  u32,
  u64,
} from '../../unit/block/drivers/nbd/server-bytes.ts';
import type { Client, Command, Outcome, Rule } from './rule.ts';

const types: Readonly<Record<Command, number>> = {
  read: READ,
  write: WRITE,
  flush: FLUSH,
  status: BLOCK_STATUS,
};

/** `expected` tells what is waited for; what came is what is returned. */
export async function examine(
  rule: Rule,
  { client, expected, directory }: { client: Client; expected: Outcome; directory: string },
): Promise<Outcome> {
  const server = new ScriptedServer(join(directory, 'nbd.sock'), scriptOf(rule));
  await server.listen();
  try {
    const address = { type: 'unix', path: server.path };
    const error = await client.open({ driver: 'nbd', server: address, ...rule.node });
    if (error !== undefined) {
      await server.until(() => server.open === 0);
      return { is: 'refused', error, farewell: server.options.at(-1) === ABORT };
    }
    if (rule.command === undefined) return { is: 'tolerated' };
    return await outcomeOf(rule.command, { client, server, expected });
  } finally {
    await server.stop();
  }
}

async function outcomeOf(
  command: Command,
  { client, server, expected }: { client: Client; server: ScriptedServer; expected: Outcome },
): Promise<Outcome> {
  const errno = await client.carryOut(command);
  if (expected.is === 'lost') {
    await client.carryOut('flush');
    await server.until(() => server.connections > 1);
    return { is: 'lost', errno };
  }
  // It may know no flushes.
  const isWell = (await client.carryOut('flush')) === 0;
  if (isWell && expected.is !== 'left') {
    return errno === 0 ? { is: 'tolerated' } : { is: 'failed', errno };
  }
  await server.until(() => server.open === 0);
  // Such a server is not trusted again.
  await client.carryOut('flush');
  if (server.connections > 1) return { is: 'lost', errno };
  return { is: 'left', errno, reason: await client.reason() };
}

function scriptOf({ server = {}, command, reply, hangsUp = false }: Rule): Script {
  const isExtended = server.headers === 'extended';
  let isFirst = true;
  return {
    answer: (request, to) => {
      if (
        isFirst &&
        command !== undefined &&
        request.type === types[command] &&
        reply !== undefined
      ) {
        isFirst = false;
        if (hangsUp) to.hangUp(reply(request));
        else to.send(reply(request));
      } else {
        to.send(rightReply(request, isExtended));
      }
    },
    ...server,
  };
}

/** To a request that is made behind the one that matters. */
function rightReply({ type, cookie, offset, length }: SeenRequest, isExtended: boolean): Buffer {
  if (type === DISC) return Buffer.alloc(0);
  if (type === BLOCK_STATUS) {
    return isExtended
      ? extendedChunk(cookie, offset, {
          type: 6,
          data: Buffer.concat([u32(CONTEXT_ID), u32(1), u64(length), u64(0)]),
        })
      : chunk(cookie, { type: 5, data: extents(CONTEXT_ID, [length, 0]) });
  }
  return isExtended ? extendedChunk(cookie, offset, { type: 0 }) : simple(cookie, 0);
}
