// Just enough telnet (RFC 854) for a user with a telnet client: announces character mode without echo, or binary mode with
// end-of-record marks for TN3270 (RFC 1576), and takes the client's own negotiation out of the input.

const IAC = 0xff;
const SE = 0xf0;
const NOP = 0xf1;
const BREAK = 0xf3;
const IP = 0xf4;
const SB = 0xfa;
const WILL = 0xfb;
const DO = 0xfd;
const EOR = 0xef;

const OPTION_BINARY = 0;
const OPTION_ECHO = 1;
const OPTION_SUPPRESS_GO_AHEAD = 3;
const OPTION_TERMINAL_TYPE = 24;
const OPTION_END_OF_RECORD = 25;
const TERMINAL_TYPE_SEND = 1;

const telnetGreeting = [
  [IAC, WILL, OPTION_ECHO],
  [IAC, WILL, OPTION_SUPPRESS_GO_AHEAD],
  [IAC, WILL, OPTION_BINARY],
  [IAC, DO, OPTION_BINARY],
];

const tn3270Greeting = [
  [IAC, DO, OPTION_END_OF_RECORD],
  [IAC, WILL, OPTION_END_OF_RECORD],
  [IAC, DO, OPTION_BINARY],
  [IAC, WILL, OPTION_BINARY],
  [IAC, DO, OPTION_TERMINAL_TYPE],
  [IAC, SB, OPTION_TERMINAL_TYPE, TERMINAL_TYPE_SEND, IAC, SE],
];

/** One connection's telnet state. */
export class TelnetDecoder {
  /** What the server sends first. */
  readonly greeting: Uint8Array;
  readonly #tn3270: boolean;
  /** Place in a command: 0 outside, 1 behind IAC, 2 behind its code. */
  #place = 0;

  constructor(options: { tn3270: boolean }) {
    this.#tn3270 = options.tn3270;
    this.greeting = Uint8Array.from((options.tn3270 ? tn3270Greeting : telnetGreeting).flat());
  }

  /** Input without the commands in it. */
  decode(bytes: Uint8Array): Uint8Array {
    // One more: a record mark is kept with its IAC, which may have come with the input before.
    const input = new Uint8Array(bytes.length + 1);
    let length = 0;
    for (const byte of bytes) {
      if (this.#place === 0) {
        if (byte === IAC) this.#place = 1;
        else input[length++] = byte;
      } else if (this.#place === 1) {
        this.#place = this.#isTwoByteCommand(byte) ? 0 : 2;
        if (byte === IAC || this.#isRecordMark(byte)) input[length++] = IAC;
        if (this.#isRecordMark(byte)) input[length++] = byte;
      } else {
        this.#place = 0;
      }
    }
    return input.subarray(0, length);
  }

  #isRecordMark(byte: number): boolean {
    return this.#tn3270 && (byte === EOR || byte === SB || byte === SE);
  }

  #isTwoByteCommand(byte: number): boolean {
    if (byte === IAC || byte === BREAK || this.#isRecordMark(byte)) return true;
    return this.#tn3270 && (byte === IP || byte === NOP);
  }
}
