// A small QMP client: connects, negotiates, sends commands and hands events on. Typed by the schema that the daemon serves;
// it talks to the reference just as well.

import { connect, type Socket } from 'node:net';
import { throwLater } from '../base/throw-later.ts';
import { QmpError, type QmpErrorClass } from '../qapi/errors.ts';
import type { CommandName, Commands } from '../qapi/generated/commands.ts';
import type { EventName, Events } from '../qapi/generated/events.ts';
import type { VersionInfo } from '../qapi/generated/types.ts';
import { JsonStream } from '../qapi/json-stream.ts';
import { writeJson } from '../qapi/json-writer.ts';
import { plainJson } from './plain-json.ts';

/** A unix socket, which its path alone may stand for, or a TCP address. */
export type QmpAddress =
  | string
  | { readonly path: string }
  | { readonly host: string; readonly port: number };

export interface QmpClientOptions {
  /** Milliseconds that connecting and each command may take; Infinity for no limit. Default 30,000. */
  readonly timeoutMs?: number;
  /** Ask for out-of-band execution. */
  readonly oob?: boolean;
}

export interface ExecuteOptions {
  /** Milliseconds for this command. */
  readonly timeoutMs?: number;
}

export interface QmpGreeting {
  readonly version: VersionInfo;
  readonly capabilities: readonly string[];
}

/** An event as it came. */
export type QmpEvent = {
  [Name in EventName]: {
    readonly event: Name;
    readonly data: Events[Name];
    readonly timestamp: { readonly seconds: number; readonly microseconds: number };
  };
}[EventName];

/** The connection has ended, or nothing came in time. */
export class QmpConnectionError extends Error {
  override readonly name = 'QmpConnectionError';
}

/** A command without members in its arguments may leave them out. */
type ArgumentsOf<Name extends CommandName> =
  Record<string, never> extends Commands[Name]['arguments']
    ? [args?: Commands[Name]['arguments'], options?: ExecuteOptions]
    : [args: Commands[Name]['arguments'], options?: ExecuteOptions];

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

const DEFAULT_TIMEOUT_MS = 30_000;
/** Longest time that a timer takes; more is no limit. */
const LONGEST_MS = 2 ** 31 - 1;

export class QmpClient {
  /** What the daemon said first. */
  readonly greeting: QmpGreeting;
  readonly #socket: Socket;
  readonly #timeoutMs: number;
  readonly #waiting = new Map<number, Waiting>();
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  readonly #closeListeners = new Set<(error: QmpConnectionError) => void>();
  #nextId = 1;
  #ended: QmpConnectionError | undefined;

  private constructor(socket: Socket, greeting: QmpGreeting, timeoutMs: number) {
    this.#socket = socket;
    this.greeting = greeting;
    this.#timeoutMs = timeoutMs;
  }

  /**
   * Connects and negotiates.
   *
   * @throws QmpConnectionError when there is no greeting in time; the socket's error when there is no connection
   */
  static async connect(address: QmpAddress, options: QmpClientOptions = {}): Promise<QmpClient> {
    const { timeoutMs = DEFAULT_TIMEOUT_MS, oob = false } = options;
    const socket = connect(typeof address === 'string' ? { path: address } : address);
    let client: QmpClient | undefined;
    const greeted = new Promise<QmpGreeting>((resolve, reject) => {
      const stream = new JsonStream(
        (value) => {
          const message = plainJson(value) as Message;
          if (client) client.#receive(message);
          else if (message.QMP) resolve(message.QMP);
        },
        (text) => socket.destroy(new QmpConnectionError(`Not QMP: ${text}`)),
      );
      socket.on('data', (bytes) => stream.push(bytes));
      let cause: Error | undefined;
      socket.on('error', (error) => {
        cause = error;
        reject(error);
      });
      socket.on('close', () => {
        const error = cause instanceof QmpConnectionError ? cause : closedError(cause);
        reject(error);
        if (client) client.#end(error);
      });
    });
    try {
      const greeting = await withinTime(greeted, timeoutMs, 'greeting');
      client = new QmpClient(socket, greeting, timeoutMs);
      await client.execute('qmp_capabilities', oob ? { enable: ['oob'] } : {});
      return client;
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  /**
   * Sends a command and waits for its response.
   *
   * @throws QmpError with the daemon's class and text; QmpConnectionError when the connection ends or time runs out
   */
  async execute<Name extends CommandName>(
    command: Name,
    ...[args, options]: ArgumentsOf<Name>
  ): Promise<Commands[Name]['returns']> {
    return this.#request({ execute: command, arguments: args ?? {} }, options);
  }

  /** Sends a command that the schema does not know, of another daemon. */
  executeAny(command: string, args: object = {}, options?: ExecuteOptions): Promise<unknown> {
    return this.#request({ execute: command, arguments: args }, options);
  }

  /** Calls `listener` with the data of each event `name` from now on; returns how to stop that. */
  on<Name extends EventName>(name: Name, listener: (data: Events[Name]) => void): () => void {
    return this.onEvent((event) => {
      if (isNamed(event, name)) listener(event.data);
    });
  }

  /**
   * Calls `listener` for each event of any name from now on; returns how to stop that. What it throws becomes an
   * `uncaughtException`, and nothing else fails of it.
   */
  onEvent(listener: (event: QmpEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Events from now on, until the connection ends. */
  events(): AsyncIterableIterator<QmpEvent> {
    return eventIterator((onEvent, onClose) => this.#listen(onEvent, onClose));
  }

  /**
   * The next event `name` that satisfies `accept`.
   *
   * @throws QmpConnectionError when none comes in time; what `accept` throws
   */
  waitForEvent<Name extends EventName>(
    name: Name,
    options: { accept?: (data: Events[Name]) => boolean; timeoutMs?: number } = {},
  ): Promise<Events[Name]> {
    const { accept = () => true, timeoutMs = this.#timeoutMs } = options;
    let stop = () => {};
    const seen = new Promise<Events[Name]>((resolve, reject) => {
      stop = this.#listen((event) => {
        try {
          if (isNamed(event, name) && accept(event.data)) resolve(event.data);
        } catch (error) {
          reject(error);
        }
      }, reject);
    });
    return withinTime(seen, timeoutMs, `event ${name}`).finally(() => stop());
  }

  /** Ends the connection; the daemon goes on. */
  close(): void {
    this.#end(closedError());
    this.#socket.destroy();
  }

  async #request(message: object, options: ExecuteOptions | undefined): Promise<unknown> {
    if (this.#ended) throw this.#ended;
    const id = this.#nextId++;
    // First, since there may be no JSON for it.
    const text = jsonOf({ ...message, id });
    const answered = new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
    });
    this.#socket.write(`${text}\n`);
    const { timeoutMs = this.#timeoutMs } = options ?? {};
    return withinTime(answered, timeoutMs, 'response').finally(() => this.#waiting.delete(id));
  }

  #receive(message: Message): void {
    if (message.event !== undefined) {
      const event = { data: {}, ...message } as unknown as QmpEvent;
      for (const listener of this.#listeners) {
        try {
          listener(event);
        } catch (error) {
          // The responses behind the event are others' business.
          throwLater(error);
        }
      }
      return;
    }
    const waiting = typeof message.id === 'number' ? this.#waiting.get(message.id) : undefined;
    if (message.error) {
      const { class: errorClass, desc } = message.error;
      waiting?.reject(new QmpError(desc, { class: errorClass }));
    } else {
      waiting?.resolve(message.return);
    }
  }

  #end(error: QmpConnectionError): void {
    if (this.#ended) return;
    this.#ended = error;
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    for (const listener of this.#closeListeners) listener(error);
  }

  /** Calls back for events, and once for the end of the connection, which may have come; returns how to stop that. */
  #listen(
    onEvent: (event: QmpEvent) => void,
    onClose: (error: QmpConnectionError) => void,
  ): () => void {
    const stop = this.onEvent(onEvent);
    if (this.#ended) onClose(this.#ended);
    else this.#closeListeners.add(onClose);
    return () => {
      stop();
      this.#closeListeners.delete(onClose);
    };
  }
}

/** Whatever may come from the daemon. */
interface Message {
  readonly QMP?: QmpGreeting;
  readonly return?: unknown;
  readonly error?: { readonly class: QmpErrorClass; readonly desc: string };
  readonly event?: string;
  readonly id?: unknown;
}

/** As JSON.stringify, but that there is JSON for a bigint. */
function jsonOf(message: object): string {
  let exact = true;
  const text = JSON.stringify(message, (_name, value: unknown) => {
    if (typeof value !== 'bigint') return value;
    exact &&= Number.isSafeInteger(Number(value));
    return Number(value);
  });
  return exact ? text : writeJson(message);
}

function isNamed<Name extends EventName>(
  event: QmpEvent,
  name: Name,
): event is QmpEvent & { readonly data: Events[Name] } {
  return event.event === name;
}

function closedError(cause?: Error): QmpConnectionError {
  return new QmpConnectionError(
    'The connection was closed',
    cause === undefined ? undefined : { cause },
  );
}

/** Listens at once; what comes before it is asked for waits. */
function eventIterator(
  listen: (onEvent: (event: QmpEvent) => void, onClose: () => void) => () => void,
): AsyncIterableIterator<QmpEvent, undefined> {
  const queue: QmpEvent[] = [];
  const asking: ((result: IteratorResult<QmpEvent, undefined>) => void)[] = [];
  const nothing = { done: true, value: undefined } as const;
  let ended = false;
  const end = (): void => {
    ended = true;
    for (const answer of asking.splice(0)) answer(nothing);
  };
  const stop = listen((event) => {
    const answer = asking.shift();
    if (answer === undefined) queue.push(event);
    else answer({ done: false, value: event });
  }, end);
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    async next() {
      const event = queue.shift();
      if (event !== undefined) return { done: false, value: event };
      return ended ? nothing : new Promise((answer) => asking.push(answer));
    },
    async return() {
      stop();
      queue.length = 0;
      end();
      return nothing;
    },
  };
}

async function withinTime<T>(work: Promise<T>, timeoutMs: number, what: string): Promise<T> {
  if (timeoutMs > LONGEST_MS) return work;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(
      () => reject(new QmpConnectionError(`No ${what} within ${timeoutMs} ms`)),
      timeoutMs,
    );
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
