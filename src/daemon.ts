// The composition root: makes the parts, gives each what it needs, and ends them in the right order. All state hangs off a
// Daemon, so that two of them can live in one process.

import type { LogFields, ProcessLogger } from './base/log.ts';
import { createTrace, type Trace } from './base/trace.ts';
import { Engine } from './engine.ts';
import { CommandQueue } from './monitor/command-queue.ts';
import type { DaemonServices } from './monitor/daemon-services.ts';
import { Dispatcher } from './monitor/dispatcher.ts';
import { EventBroadcast } from './monitor/event-broadcast.ts';
import { handlers } from './monitor/handlers/index.ts';
import { QmpMonitor } from './monitor/qmp-monitor.ts';
import { ChardevRegistry } from './net/chardev/chardev-registry.ts';
import { ObjectRegistry } from './object/object-registry.ts';
import { type QomNode, qomTree } from './object/qom-tree.ts';
import { QmpError } from './qapi/errors.ts';
import type { CommandName, Commands } from './qapi/generated/commands.ts';
import type { MonitorOptions } from './qapi/generated/types.ts';
import { Poller } from './sys/poller.ts';

export interface DaemonOptions {
  readonly log: ProcessLogger;
  /** As query-version tells it: `qmp-storage-daemon 0.1.0`. */
  readonly packageName: string;
  /** Runs in the background, without standard input and output. */
  readonly daemonized?: boolean;
  /** Lines for the person who started the daemon, for standard output. */
  readonly print: (text: string) => void;
}

export type TraceWriter = (name: string, fields: LogFields) => void;

export class Daemon implements DaemonServices {
  readonly log: ProcessLogger;
  readonly trace: Trace;
  readonly packageName: string;
  readonly events = new EventBroadcast();
  readonly objects: ObjectRegistry;
  readonly chardevs: ChardevRegistry;
  readonly engine: Engine;
  /** Resolves when everything is closed, after `quit` or `close`. */
  readonly ended: Promise<void>;
  readonly #poller: Poller;
  readonly #queue: CommandQueue;
  readonly #dispatcher: Dispatcher<DaemonServices>;
  readonly #monitors: QmpMonitor[] = [];
  #writeTrace: TraceWriter;
  #end: () => void = () => {};
  #closing: Promise<void> | undefined;

  constructor({ log, packageName, daemonized = false, print }: DaemonOptions) {
    this.log = log;
    this.packageName = packageName;
    this.#writeTrace = (name, fields) => log.trace(name, fields);
    this.trace = createTrace((name, fields) => this.#writeTrace(name, fields));
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.objects = new ObjectRegistry({ trace: this.trace });
    this.#poller = new Poller({
      onError: (error) => log.error(`Unexpected error: ${String(error)}`, { err: error }),
    });
    this.chardevs = new ChardevRegistry({
      poller: this.#poller,
      log,
      daemonized,
      print,
      hasObject: (id) => this.objects.find(id) !== undefined,
    });
    this.engine = new Engine({
      log,
      trace: this.trace,
      events: this.events,
      objects: this.objects,
      poller: this.#poller,
    });
    this.#queue = new CommandQueue(log);
    this.#dispatcher = new Dispatcher({ handlers, daemon: this as DaemonServices, log });
  }

  /** Sends what trace points tell somewhere else than to the log. */
  traceTo(write: TraceWriter): void {
    this.#writeTrace = write;
  }

  /** Carries out a command as a monitor would. Throws QmpError. */
  execute<Name extends CommandName>(
    command: Name,
    args: Commands[Name]['arguments'],
  ): Promise<Commands[Name]['returns']> {
    return this.#dispatcher.execute(command, args);
  }

  /** --monitor. Throws QmpError. */
  addMonitor({ chardev: id, mode = 'control', pretty = false }: MonitorOptions): void {
    const chardev = this.chardevs.find(id);
    if (chardev === undefined) throw new QmpError(`chardev "${id}" not found`);
    if (mode !== 'control') throw new QmpError('Only QMP is supported');
    const { log, events, packageName } = this;
    this.#monitors.push(
      new QmpMonitor({
        chardev,
        pretty,
        queue: this.#queue,
        respond: (message, session) => this.#dispatcher.respond(message, session),
        events,
        log,
        packageName,
      }),
    );
  }

  /** Lets monitors carry out commands; what they were sent until then has waited. */
  start(): void {
    this.#queue.start();
  }

  objectModel(): QomNode {
    return qomTree(this.objects, undefined);
  }

  /** The `quit` command: resolves when exports and nodes are gone; monitors go after its response is out. */
  async quit(): Promise<void> {
    await this.engine.close();
    void this.#closeRest();
  }

  /** Ends everything in the reference's order: exports, nodes, monitors, chardevs. */
  async close(): Promise<void> {
    await this.engine.close();
    await this.#closeRest();
  }

  #closeRest(): Promise<void> {
    this.#closing ??= this.#closeMonitors();
    return this.#closing;
  }

  async #closeMonitors(): Promise<void> {
    await this.#queue.close();
    for (const monitor of this.#monitors) monitor.close();
    await this.chardevs.close();
    this.events.close();
    this.#poller.close();
    this.#end();
  }
}
