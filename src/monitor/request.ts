// The envelope of a QMP message: which members a request may have, checked in the reference's order, and what a response
// looks like. The command's arguments are the dispatcher's business.

import { QmpError } from '../qapi/errors.ts';
import { isJsonObject, type JsonObject, type JsonValue } from '../qapi/json-value.ts';
import { membersInOrder } from '../qapi/member-order.ts';

export interface QmpRequest {
  readonly command: string;
  readonly args: JsonObject;
  /** Asked for with `exec-oob`. */
  readonly outOfBand: boolean;
}

/** A response or event, ready to be written. */
export type QmpMessage = Readonly<Record<string, unknown>>;

/** Is this message to be carried out at once, ahead of the queue? It may still turn out not to be allowed to. */
export function isOutOfBand(message: JsonValue): boolean {
  return isJsonObject(message) && 'exec-oob' in message && !('execute' in message);
}

/**
 * What a message asks for.
 *
 * @throws QmpError with the reference's text for the first member, in its order, that is wrong
 */
export function readRequest(
  message: JsonValue,
  { outOfBandEnabled }: { readonly outOfBandEnabled: boolean },
): QmpRequest {
  if (!isJsonObject(message)) throw new QmpError('QMP input must be a JSON object');
  let key: string | undefined;
  for (const member of membersInOrder(message)) {
    if (member === 'execute' || (member === 'exec-oob' && outOfBandEnabled)) {
      if (typeof message[member] !== 'string') {
        throw new QmpError(`QMP input member '${member}' must be a string`);
      }
      if (key !== undefined) {
        throw new QmpError(`QMP input member '${member}' clashes with '${key}'`);
      }
      key = member;
    } else if (member === 'arguments') {
      if (!isJsonObject(message[member])) {
        throw new QmpError("QMP input member 'arguments' must be an object");
      }
    } else if (member !== 'id') {
      throw new QmpError(`QMP input member '${member}' is unexpected`);
    }
  }
  if (key === undefined) throw new QmpError("QMP input lacks member 'execute'");
  return {
    command: message[key] as string,
    args: (message['arguments'] ?? Object.create(null)) as JsonObject,
    outOfBand: key === 'exec-oob',
  };
}

export function successResponse(result: unknown, message: JsonValue): QmpMessage {
  return withId({ return: result === undefined ? {} : result }, message);
}

/** The response to a message that failed; without a message (it could not be parsed) there is no id. */
export function errorResponse(error: QmpError, message?: JsonValue): QmpMessage {
  return withId({ error: { class: error.class, desc: error.desc } }, message);
}

function withId(response: QmpMessage, message: JsonValue | undefined): QmpMessage {
  return isJsonObject(message) && 'id' in message ? { ...response, id: message['id'] } : response;
}
