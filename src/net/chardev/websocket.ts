// The server side of WebSocket (RFC 6455) for one connection, as much as the reference speaks: binary frames in, in pieces or
// whole, one binary frame for each write out, ping answered, everything else refused with a close frame.
//
//   frame  [0] FIN 0x80 | opcode  [1] MASK 0x80 | length; 126: [2..3] length, 127: [2..9] length; then the mask's 4 bytes

import { createHash } from 'node:crypto';

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const KEY_LENGTH = 24;
const MAX_REQUEST_BYTES = 4096;
const MAX_HEADERS = 32;

const FIN = 0x80;
const MASKED = 0x80;
const OPCODE_MASK = 0x0f;
const LENGTH_MASK = 0x7f;
const LENGTH_IN_16_BITS = 126;
const LENGTH_IN_64_BITS = 127;
const MASK_BYTES = 4;

const OPCODE_BINARY = 2;
const OPCODE_CLOSE = 8;
const OPCODE_PING = 9;
const OPCODE_PONG = 10;

const STATUS_NORMAL = 1000;
const STATUS_PROTOCOL_ERROR = 1002;
const STATUS_INVALID_DATA = 1003;
const STATUS_POLICY = 1008;

/** What received bytes came to. */
export interface WebSocketOutcome {
  /** Payload for the user. */
  readonly input: readonly Uint8Array[];
  /** To be sent back, framed already. */
  readonly replies: readonly Uint8Array[];
  /** The connection ends after the replies. */
  readonly ended: boolean;
}

interface MutableOutcome {
  input: Uint8Array[];
  replies: Uint8Array[];
  ended: boolean;
}

interface Frame {
  readonly opcode: number;
  readonly mask: Uint8Array;
  /** Payload bytes that are still to come. */
  remaining: number;
  /** Payload bytes that have come; their number selects the mask's byte. */
  taken: number;
}

export class WebSocketServer {
  /** Whether the HTTP request has been answered with an upgrade. */
  upgraded = false;
  #waiting: Buffer = Buffer.alloc(0);
  #frame: Frame | undefined;
  /** Of the fragmented message that goes on. */
  #opcode = 0;

  /** Takes received bytes. Nothing may follow an outcome that has `ended`. */
  receive(bytes: Uint8Array): WebSocketOutcome {
    this.#waiting = Buffer.concat([this.#waiting, bytes]);
    const outcome: MutableOutcome = { input: [], replies: [], ended: false };
    if (!this.upgraded) this.#handshake(outcome);
    while (this.upgraded && !outcome.ended && this.#step(outcome));
    return outcome;
  }

  /** One binary frame. */
  encode(bytes: Uint8Array): Uint8Array {
    return frameOf(OPCODE_BINARY, bytes);
  }

  #handshake(outcome: MutableOutcome): void {
    const end = this.#waiting.indexOf('\r\n\r\n');
    if (end === -1) {
      if (this.#waiting.length < MAX_REQUEST_BYTES) return;
      outcome.replies.push(httpReply('403 Request Entity Too Large', ['Connection: close']));
      outcome.ended = true;
      return;
    }
    const { reply, accepted } = answerTo(this.#waiting.toString('latin1', 0, end));
    outcome.replies.push(reply);
    outcome.ended = !accepted;
    this.upgraded = accepted;
    this.#waiting = this.#waiting.subarray(end + 4);
  }

  /** One header or one piece of payload; false when more bytes are needed for it. */
  #step(outcome: MutableOutcome): boolean {
    return this.#frame === undefined
      ? this.#readHeader(outcome)
      : this.#readPayload(this.#frame, outcome);
  }

  #readHeader(outcome: MutableOutcome): boolean {
    const bytes = this.#waiting;
    if (bytes.length < 2) return false;
    const first = bytes.readUInt8(0);
    const opcode = first & OPCODE_MASK || this.#opcode;
    const second = bytes.readUInt8(1);
    const shortLength = second & LENGTH_MASK;
    if (opcode === OPCODE_CLOSE) {
      // The peer's own status is not echoed, as in the reference.
      outcome.replies.push(closeFrame(STATUS_NORMAL, 'peer requested close'));
      outcome.ended = true;
      return false;
    }
    const refusal = refusalOf({ opcode, fin: (first & FIN) !== 0, second });
    if (refusal !== undefined) {
      outcome.replies.push(closeFrame(refusal.status, refusal.reason));
      outcome.ended = true;
      return false;
    }
    const lengthBytes =
      shortLength === LENGTH_IN_16_BITS ? 2 : shortLength === LENGTH_IN_64_BITS ? 8 : 0;
    const headerBytes = 2 + lengthBytes + MASK_BYTES;
    if (bytes.length < headerBytes) return false;
    const length =
      lengthBytes === 0
        ? shortLength
        : lengthBytes === 2
          ? bytes.readUInt16BE(2)
          : bytes.readUInt32BE(2) * 2 ** 32 + bytes.readUInt32BE(6);
    // Control frames may come between the fragments of a message.
    if (opcode < OPCODE_CLOSE) this.#opcode = opcode;
    const mask = Uint8Array.from(bytes.subarray(2 + lengthBytes, headerBytes));
    this.#frame = { opcode, mask, remaining: length, taken: 0 };
    this.#waiting = bytes.subarray(headerBytes);
    return true;
  }

  #readPayload(frame: Frame, outcome: MutableOutcome): boolean {
    const control = frame.opcode >= OPCODE_CLOSE;
    const available = Math.min(this.#waiting.length, frame.remaining);
    if (available < frame.remaining && (control || available === 0)) return false;
    const payload = unmasked(this.#waiting.subarray(0, available), frame);
    this.#waiting = this.#waiting.subarray(available);
    frame.remaining -= available;
    frame.taken += available;
    if (frame.remaining === 0) this.#frame = undefined;
    if (frame.opcode === OPCODE_BINARY && payload.length > 0) outcome.input.push(payload);
    if (frame.opcode === OPCODE_PING) outcome.replies.push(frameOf(OPCODE_PONG, payload));
    return true;
  }
}

/** Why a frame is refused, in the order in which the reference looks. */
function refusalOf(header: {
  readonly opcode: number;
  readonly fin: boolean;
  readonly second: number;
}): { status: number; reason: string } | undefined {
  const { opcode, fin, second } = header;
  if (!fin && opcode !== OPCODE_BINARY) {
    return { status: STATUS_POLICY, reason: 'only binary frames may be fragmented' };
  }
  if (![OPCODE_BINARY, OPCODE_PING, OPCODE_PONG].includes(opcode)) {
    const reason = 'only binary, close, ping, and pong frames are supported';
    return { status: STATUS_INVALID_DATA, reason };
  }
  if ((second & MASKED) === 0) {
    return { status: STATUS_PROTOCOL_ERROR, reason: 'client frames must be masked' };
  }
  if (opcode >= OPCODE_CLOSE && (second & LENGTH_MASK) >= LENGTH_IN_16_BITS) {
    return { status: STATUS_PROTOCOL_ERROR, reason: 'control frame is too large' };
  }
  return undefined;
}

function unmasked(bytes: Uint8Array, frame: Frame): Uint8Array {
  const { mask, taken } = frame;
  return bytes.map((byte, at) => byte ^ (mask[(taken + at) % MASK_BYTES] as number));
}

function closeFrame(status: number, reason: string): Uint8Array {
  const payload = Buffer.alloc(2 + reason.length);
  payload.writeUInt16BE(status);
  payload.write(reason, 2, 'latin1');
  return frameOf(OPCODE_CLOSE, payload);
}

function frameOf(opcode: number, payload: Uint8Array): Uint8Array {
  const { length } = payload;
  const header = Buffer.alloc(length < LENGTH_IN_16_BITS ? 2 : length <= 0xffff ? 4 : 10);
  header[0] = FIN | opcode;
  if (header.length === 2) {
    header[1] = length;
  } else if (header.length === 4) {
    header[1] = LENGTH_IN_16_BITS;
    header.writeUInt16BE(length, 2);
  } else {
    header[1] = LENGTH_IN_64_BITS;
    header.writeBigUInt64BE(BigInt(length), 2);
  }
  return Buffer.concat([header, payload]);
}

/** The answer to an HTTP request (without the blank line), and whether it upgrades the connection. */
function answerTo(request: string): { reply: Uint8Array; accepted: boolean } {
  const badRequest = httpReply('400 Bad Request', [
    'Connection: close',
    'Sec-WebSocket-Version: 13',
  ]);
  const refused = { reply: badRequest, accepted: false };
  const [greeting = '', ...lines] = request.split('\r\n');
  const [method, path, ...version] = greeting.split(' ');
  if (method !== 'GET' || path === undefined || version.length === 0) return refused;
  if (path !== '/') {
    return { reply: httpReply('404 Not Found', ['Connection: close']), accepted: false };
  }
  if (version.join(' ') !== 'HTTP/1.1' || lines.length > MAX_HEADERS) return refused;
  const headers = new Map<string, string>();
  for (const line of lines) {
    const colon = line.indexOf(':');
    if (colon === -1) return refused;
    const name = line.slice(0, colon).toLowerCase();
    if (!headers.has(name)) headers.set(name, line.slice(colon + 1).replace(/^ +/, ''));
  }
  const protocols = headers.get('sec-websocket-protocol');
  const key = headers.get('sec-websocket-key');
  const wantsUpgrade = (headers.get('connection') ?? '')
    .split(',')
    .some((word) => word.trim().toLowerCase() === 'upgrade');
  const acceptable =
    headers.get('sec-websocket-version') === '13' &&
    headers.has('host') &&
    wantsUpgrade &&
    headers.get('upgrade')?.toLowerCase() === 'websocket' &&
    (protocols === undefined || protocols.includes('binary'));
  if (!acceptable || key?.length !== KEY_LENGTH) return refused;
  const accept = createHash('sha1').update(`${key}${GUID}`, 'latin1').digest('base64');
  const reply = httpReply('101 Switching Protocols', [
    'Upgrade: websocket',
    'Connection: Upgrade',
    `Sec-WebSocket-Accept: ${accept}`,
    ...(protocols === undefined ? [] : ['Sec-WebSocket-Protocol: binary']),
  ]);
  return { reply, accepted: true };
}

function httpReply(status: string, headers: readonly string[]): Uint8Array {
  const date = `Date: ${new Date().toUTCString()}`;
  return Buffer.from([`HTTP/1.1 ${status}`, date, ...headers, '', ''].join('\r\n'), 'latin1');
}
