// A message of the frontend: held against its row, carried out, and answered or acknowledged.

import { IoError, ProtocolError } from '../../base/errors.ts';
import type { MaybePromise } from '../../base/io-buffer.ts';
import type { Connection, Message } from './connection.ts';
import { type Answer, type MessageRow, messages } from './messages.ts';
import type { Session } from './session.ts';
import { encodeU64 } from './wire.ts';

/**
 * Deals with a message and answers it. Throws or rejects what ends the session: an error that the frontend cannot be told of
 * because it has not asked for an acknowledgement.
 */
export function dispatch(
  session: Session,
  connection: Connection,
  message: Message,
): MaybePromise<void> {
  let answer: MaybePromise<Answer | undefined>;
  try {
    answer = checkedRow(message).run(session, message);
  } catch (error) {
    return refuse(connection, message, error);
  }
  if (answer instanceof Promise) {
    return answer.then(
      (settled) => acknowledge(connection, message, settled),
      (error: unknown) => refuse(connection, message, error),
    );
  }
  acknowledge(connection, message, answer);
}

function checkedRow(message: Message): MessageRow {
  const row = messages[message.request];
  if (row === undefined) throw new ProtocolError('message', message.request, 'one that is known');
  const [least, most] = row.payload;
  if (message.size < least || message.size > most) {
    throw new ProtocolError(`${row.name} size`, message.size, `${least} to ${most}`);
  }
  if (message.fds.length > row.files) {
    throw new ProtocolError(`${row.name} files`, message.fds.length, `at most ${row.files}`);
  }
  return row;
}

function acknowledge(connection: Connection, message: Message, answer: Answer | undefined): void {
  if (answer !== undefined) {
    connection.reply(message, answer.payload, answer.fd);
  } else if (message.needReply) {
    connection.reply(message, encodeU64(0));
  }
}

function refuse(connection: Connection, message: Message, error: unknown): void {
  const ours = error instanceof ProtocolError || error instanceof IoError;
  if (!ours || !message.needReply) throw error;
  connection.reply(message, encodeU64(1));
}
