// A small QMP client: connects, negotiates, sends commands and hands events on. Typed by the schema that the daemon serves;
// it talks to the reference just as well.

import { connect, type Socket } from 'node:net';
import { QmpError, type QmpErrorClass } from '../qapi/errors.ts';
import type { CommandName, Commands } from '../qapi/generated/commands.ts';
import type { EventName, Events } from '../qapi/generated/events.ts';
import type { VersionInfo } from '../qapi/generated/types.ts';
import { JsonStream } from '../qapi/json-stream.ts';
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

export class QmpClient {
  /** What the daemon said first. */
  readonly greeting: QmpGreeting;
  readonly #socket: Socket;
  readonly #timeoutMs: number;
  readonly #waiting = new Map<number, Waiting>();
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  readonly #closeListeners = new Set<() => void>();
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
      socket.on('error', reject);
      socket.on('close', () => {
        const error = new QmpConnectionError('The connection was closed');
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

  /** Calls `listener` for each event of any name from now on; returns how to stop that. */
  onEvent(listener: (event: QmpEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Events from now on, until the connection ends. */
  events(): AsyncIterableIterator<QmpEvent> {
    return eventIterator({
      onEvent: (listener) => this.onEvent(listener),
      onClose: (listener) => {
        if (this.#ended) listener();
        else this.#closeListeners.add(listener);
      },
    });
  }

  /**
   * The next event `name` that satisfies `accept`.
   *
   * @throws QmpConnectionError when none comes in time
   */
  waitForEvent<Name extends EventName>(
    name: Name,
    options: { accept?: (data: Events[Name]) => boolean; timeoutMs?: number } = {},
  ): Promise<Events[Name]> {
    const { accept = () => true, timeoutMs = this.#timeoutMs } = options;
    let stop = () => {};
    const seen = new Promise<Events[Name]>((resolve, reject) => {
      stop = this.onEvent((event) => {
        if (isNamed(event, name) && accept(event.data)) resolve(event.data);
      });
      if (this.#ended) reject(this.#ended);
      this.#closeListeners.add(() => reject(new QmpConnectionError('The connection was closed')));
    });
    return withinTime(seen, timeoutMs, `event ${name}`).finally(() => stop());
  }

  /** Ends the connection; the daemon goes on. */
  close(): void {
    this.#end(new QmpConnectionError('The connection was closed'));
    this.#socket.destroy();
  }

  async #request(message: object, options: ExecuteOptions | undefined): Promise<unknown> {
    if (this.#ended) throw this.#ended;
    const id = this.#nextId++;
    const answered = new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
    });
    this.#socket.write(`${JSON.stringify({ ...message, id })}\n`);
    const { timeoutMs = this.#timeoutMs } = options ?? {};
    return withinTime(answered, timeoutMs, 'response').finally(() => this.#waiting.delete(id));
  }

  #receive(message: Message): void {
    if (message.event !== undefined) {
      const event = { data: {}, ...message } as unknown as QmpEvent;
      for (const listener of this.#listeners) listener(event);
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
    for (const listener of this.#closeListeners) listener();
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

function isNamed<Name extends EventName>(
  event: QmpEvent,
  name: Name,
): event is QmpEvent & { readonly data: Events[Name] } {
  return event.event === name;
}

interface EventSource {
  onEvent(listener: (event: QmpEvent) => void): () => void;
  onClose(listener: () => void): void;
}

/** Listens at once; what comes before it is asked for waits. */
function eventIterator(source: EventSource): AsyncGenerator<QmpEvent> {
  const queue: QmpEvent[] = [];
  let closed = false;
  let wake = () => {};
  const stop = source.onEvent((event) => {
    queue.push(event);
    wake();
  });
  source.onClose(() => {
    closed = true;
    wake();
  });
  return (async function* () {
    try {
      for (;;) {
        const event = queue.shift();
        if (event) yield event;
        else if (closed) return;
        else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    } finally {
      stop();
    }
  })();
}

async function withinTime<T>(work: Promise<T>, timeoutMs: number, what: string): Promise<T> {
  if (timeoutMs === Infinity) return work;
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
