// One peer's stay on a monitor, from greeting to disconnect: its bytes to requests, requests in order to responses, and the
// state that negotiation sets. Knows no chardev: what it says and when it can take more goes through callbacks.
//
//   expecting capabilities --qmp_capabilities--> command mode        (until the peer leaves)

import type { MaybePromise } from '../base/io-buffer.ts';
import { QmpError } from '../qapi/errors.ts';
import type { QMPCapability } from '../qapi/generated/types.ts';
import { JsonStream } from '../qapi/json-stream.ts';
import { isJsonObject, type JsonValue } from '../qapi/json-value.ts';
import type { CommandQueue } from './command-queue.ts';
import type { RequestSession } from './dispatcher.ts';
import { closingError, ErrorFlood } from './error-flood.ts';
import { errorResponse, isOutOfBand, type QmpMessage } from './request.ts';

export interface QmpSessionOptions {
  readonly queue: CommandQueue;
  /** The dispatcher's `respond`. */
  readonly respond: (
    message: JsonValue,
    session: RequestSession,
  ) => MaybePromise<QmpMessage | undefined>;
  /** Says something to the peer. False when the peer does not read: nothing is begun until `resume`. */
  readonly say: (message: QmpMessage) => boolean;
  /** Tells whether more input is wanted. */
  readonly acceptInput: (accept: boolean) => void;
  /** Capabilities that the greeting offers. */
  readonly offered: readonly QMPCapability[];
}

/** What waits for its turn: a message, or the response to one that could not be read. */
type Queued = { readonly message: JsonValue } | { readonly response: QmpMessage };

/** Requests that may wait with out-of-band execution enabled; without it one is in hand and none waits. */
const MAX_QUEUED = 8;

export class QmpSession implements RequestSession {
  readonly #options: QmpSessionOptions;
  readonly #stream: JsonStream;
  readonly #flood = new ErrorFlood();
  readonly #queued: Queued[] = [];
  /** Input that came while no more requests were taken. */
  #backlog: Uint8Array[] = [];
  #enabled: readonly QMPCapability[] = [];
  #negotiated = false;
  #turnPending = false;
  /** A request is being carried out that no other may be read before the end of. */
  #inHand = false;
  #stalled = false;
  #refusing = false;

  constructor(options: QmpSessionOptions) {
    this.#options = options;
    this.#stream = new JsonStream(
      (value) => this.#receive(value),
      (mistake) => this.#receiveMistake(mistake),
    );
  }

  get negotiated(): boolean {
    return this.#negotiated;
  }

  get outOfBandEnabled(): boolean {
    return this.#enabled.includes('oob');
  }

  negotiate(enable: readonly QMPCapability[]): void {
    if (this.#negotiated) {
      throw new QmpError('Capabilities negotiation is already complete, command ignored', {
        class: 'CommandNotFound',
      });
    }
    const missing = enable.filter((capability) => !this.#options.offered.includes(capability));
    if (missing.length > 0) throw new QmpError(`Capability ${missing.join(', ')} not available`);
    this.#enabled = enable;
    this.#negotiated = true;
  }

  /** Takes input; `bytes` are only used during the call. */
  receive(bytes: Uint8Array): void {
    if (this.#backlog.length > 0 || this.#full) {
      this.#backlog.push(Uint8Array.from(bytes));
    } else {
      if (!this.#turnPending) this.#flood.pause();
      const at = this.#stream.push(bytes);
      if (at < bytes.length) this.#backlog.push(Uint8Array.from(bytes.subarray(at)));
    }
    this.#tellAccept();
  }

  /** The peer reads again. */
  resume(): void {
    this.#stalled = false;
    this.#proceed();
  }

  get #full(): boolean {
    return (
      this.#stalled ||
      this.#inHand ||
      this.#queued.length >= (this.outOfBandEnabled ? MAX_QUEUED : 1)
    );
  }

  #receive(message: JsonValue): void {
    if (!isJsonObject(message)) return this.#receiveMistake('QMP input must be a JSON object');
    this.#flood.good();
    if (isOutOfBand(message)) {
      const response = this.#options.respond(message, this);
      if (response instanceof Promise) void response.then((late) => this.#say(late));
      else this.#say(response);
    } else {
      this.#enqueue({ message });
    }
  }

  #receiveMistake(mistake: string): void {
    const verdict = this.#flood.bad();
    if (verdict === 'drop') return;
    const error = new QmpError(verdict === 'report' ? mistake : closingError);
    this.#enqueue({ response: errorResponse(error) });
  }

  #enqueue(queued: Queued): void {
    this.#queued.push(queued);
    if (this.#full) this.#stream.pause();
    this.#askForTurn();
  }

  #askForTurn(): void {
    if (this.#turnPending || this.#stalled || this.#queued.length === 0) return;
    this.#turnPending = true;
    this.#options.queue.add(() => this.#turn());
  }

  async #turn(): Promise<void> {
    const queued = this.#queued.shift() as Queued;
    this.#inHand = !this.outOfBandEnabled;
    if (!this.#inHand) this.#takeBacklog();
    try {
      this.#say(
        'message' in queued ? await this.#options.respond(queued.message, this) : queued.response,
      );
    } finally {
      this.#inHand = false;
      this.#turnPending = false;
      this.#proceed();
    }
  }

  #say(response: QmpMessage | undefined): void {
    if (response !== undefined && !this.#options.say(response)) {
      this.#stalled = true;
      this.#stream.pause();
    }
  }

  #proceed(): void {
    this.#takeBacklog();
    this.#askForTurn();
    this.#tellAccept();
  }

  #takeBacklog(): void {
    while (this.#backlog.length > 0 && !this.#full) {
      const bytes = this.#backlog.shift() as Uint8Array;
      const at = this.#stream.push(bytes);
      if (at < bytes.length) this.#backlog.unshift(bytes.subarray(at));
    }
  }

  #tellAccept(): void {
    // Also while a request is in hand: the end of the stream must not be read before the request is answered.
    const refuse = this.#backlog.length > 0 || this.#full;
    if (refuse === this.#refusing) return;
    this.#refusing = refuse;
    this.#options.acceptInput(!refuse);
  }
}
