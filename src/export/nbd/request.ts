// Whether a decoded request may be carried out. Checks come in the order in which the reference makes them, and say what it
// says. Whatever the reason, the error on the wire is EINVAL.

import {
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_PAYLOAD_LEN,
  NBD_CMD_READ,
  NBD_MAX_BUFFER_SIZE,
  nameOfCommand,
} from '../../net/nbd/protocol.ts';
import { type NbdRequest, spellLength, spellOffset } from '../../net/nbd/wire.ts';

/** What a request is checked against. */
export interface Target {
  /** Bytes of the export. */
  readonly size: number;
  readonly readOnly: boolean;
  readonly structuredReply: boolean;
}

/** What a command declares about its requests; see commands.ts. */
export interface RequestRules {
  /** NBD_CMD_FLAG_* that it knows, whatever was negotiated. */
  readonly flags: number;
  readonly writes: boolean;
  /** Its length is limited to NBD_MAX_BUFFER_SIZE. */
  readonly limited: boolean;
  /**
   * `request`: data follow its header. `filter`: with extended headers metadata contexts may follow, if its flags say so. What
   * follows the header of any other command is received and ignored.
   */
  readonly payload: 'none' | 'request' | 'filter';
}

/** Whether something follows the header of a request; its length is that of the request. */
export function hasPayload(rules: RequestRules | undefined, request: NbdRequest): boolean {
  if (rules?.payload === 'request') return true;
  return request.extended && (request.flags & NBD_CMD_FLAG_PAYLOAD_LEN) !== 0;
}

/** Checks what must hold before the payload of a request is received. When it has one, a refusal ends the connection. */
export function refusalBeforePayload(
  rules: RequestRules | undefined,
  request: NbdRequest,
): string | undefined {
  if (request.length <= NBD_MAX_BUFFER_SIZE) return undefined;
  if (rules?.limited !== true && !hasPayload(rules, request)) return undefined;
  // The versions of the reference differ in a blank.
  const length = request.extended ? spellLength(request) : `${request.length} `;
  return `len (${length}) is larger than max len (${NBD_MAX_BUFFER_SIZE})`;
}

/** Why a request that was received completely must be refused, or undefined. */
export function refusal(
  rules: RequestRules | undefined,
  request: NbdRequest,
  target: Target,
): string | undefined {
  if (target.readOnly && rules?.writes) return 'Export is read-only';
  if (request.offset > target.size || request.length > target.size - request.offset) {
    return (
      `operation past EOF; From: ${spellOffset(request)}, ` +
      `Len: ${spellLength(request)}, Size: ${target.size}`
    );
  }
  let known = rules === undefined ? 1 : rules.flags;
  if (request.type === NBD_CMD_READ && target.structuredReply) known |= NBD_CMD_FLAG_DF;
  if (request.extended && rules !== undefined && rules.payload !== 'none') {
    known |= NBD_CMD_FLAG_PAYLOAD_LEN;
  }
  if ((request.flags & ~known) !== 0) {
    const name = nameOfCommand(request.type);
    return `unsupported flags for command ${name} (got 0x${request.flags.toString(16)})`;
  }
  if (rules === undefined) return `invalid request type (${request.type}) received`;
  return undefined;
}
