// The composition root: makes the parts, gives each what it needs, and ends them in the right order. All state hangs off a
// Daemon, so that two of them can live in one process.

import type { LogFields, ProcessLogger } from './base/log.ts';
import { createTrace, type Trace } from './base/trace.ts';
import type { Breakpoints } from './block/debug-breakpoints.ts';
import type { Disk } from './block/disk.ts';
import type { Engine } from './engine.ts';
import { CommandQueue } from './monitor/command-queue.ts';
import type { DaemonServices } from './monitor/daemon-services.ts';
import type { Dispatcher, RequestSession } from './monitor/dispatcher.ts';
import { EventBroadcast } from './monitor/event-broadcast.ts';
import { QmpMonitor } from './monitor/qmp-monitor.ts';
import type { QmpMessage } from './monitor/request.ts';
import { ChardevRegistry } from './net/chardev/chardev-registry.ts';
import { isAuthorized } from './object/authz.ts';
import { ObjectRegistry } from './object/object-registry.ts';
import { type QomNode, qomTree } from './object/qom-tree.ts';
import { tlsCredentials } from './object/tls-creds.ts';
import { QmpError } from './qapi/errors.ts';
import type { CommandName, Commands } from './qapi/generated/commands.ts';
import type { MonitorOptions } from './qapi/generated/types.ts';
import type { JsonValue } from './qapi/json-value.ts';
import { writeJson } from './qapi/json-writer.ts';
import { Poller } from './sys/poller.ts';

export interface DaemonOptions {
  readonly log: ProcessLogger;
  /** As query-version tells it: `qmp-storage-daemon 0.1.0`. */
  readonly packageName: string;
  /** Runs in the background, without standard input and output. */
  readonly daemonized?: boolean;
  /** Lines for the person who started the daemon, for standard output. */
  readonly print: (text: string) => void;
  /** The same, for lines that nothing may hold back. */
  readonly printNow: (text: string) => void;
}

/** What carries out commands. */
interface Works {
  readonly engine: Engine;
  readonly dispatcher: Dispatcher<DaemonServices>;
}

export type TraceWriter = (name: string, fields: LogFields) => void;

export class Daemon implements DaemonServices {
  readonly log: ProcessLogger;
  readonly trace: Trace;
  readonly packageName: string;
  readonly events = new EventBroadcast();
  readonly objects: ObjectRegistry;
  readonly chardevs: ChardevRegistry;
  /** Resolves when everything is closed, after `quit` or `close`. */
  readonly ended: Promise<void>;
  readonly #poller: Poller;
  readonly #queue: CommandQueue;
  #works: Works | undefined;
  #loading: Promise<Works> | undefined;
  readonly #monitors: QmpMonitor[] = [];
  readonly #printNow: (text: string) => void;
  #writeTrace: TraceWriter;
  readonly #started: Promise<void>;
  #start: () => void = () => {};
  #end: () => void = () => {};
  /** The end has begun: no more commands from the program around. */
  #ending = false;
  #closing: Promise<void> | undefined;

  constructor({ log, packageName, daemonized = false, print, printNow }: DaemonOptions) {
    this.log = log;
    this.#printNow = printNow;
    this.packageName = packageName;
    this.#writeTrace = (name, fields) => log.trace(name, fields);
    this.trace = createTrace((name, fields) => this.#writeTrace(name, fields));
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.#started = new Promise((resolve) => {
      this.#start = resolve;
    });
    this.#queue = new CommandQueue(log);
    this.events.add({
      event: (message) => this.trace.monitor_protocol_event_emit.log({ event: message['event'] }),
    });
    this.objects = new ObjectRegistry({ trace: this.trace, log });
    this.#poller = new Poller({
      onError: (error) => log.error(`Unexpected error: ${String(error)}`, { err: error }),
    });
    this.chardevs = new ChardevRegistry({
      poller: this.#poller,
      log,
      daemonized,
      print,
      objects: {
        tlsCredentials: (id, endpoint) => tlsCredentials(id, endpoint, this.objects),
        isAuthorized: (id, name) => isAuthorized(id, name, this.objects),
      },
      // Not while the command line is carried out.
      quit: () => void this.#started.then(() => this.close()),
    });
  }

  /** The block graph and the exports. There once `load` has resolved. */
  get engine(): Engine {
    if (this.#works === undefined) throw new Error('the daemon has not loaded its engine yet');
    return this.#works.engine;
  }

  /**
   * Loads what carries out commands. It is most of the program, and the greeting of a monitor does not need it; everything
   * that does waits for it.
   */
  async load(): Promise<Works> {
    this.#loading ??= this.#load();
    return this.#loading;
  }

  /** Sends what trace points tell somewhere else than to the log. */
  traceTo(write: TraceWriter): void {
    this.#writeTrace = write;
  }

  /** Carries out a command as a monitor would. Throws QmpError. */
  async execute<Name extends CommandName>(
    command: Name,
    args: Commands[Name]['arguments'],
  ): Promise<Commands[Name]['returns']> {
    const { dispatcher } = await this.#worksForUse();
    return dispatcher.execute(command, args);
  }

  /** A block node whose disk is code. Throws QmpError. */
  async addDisk(
    nodeName: string,
    disk: Disk,
    options: { readonly readOnly: boolean },
  ): Promise<void> {
    const { engine } = await this.#worksForUse();
    await engine.graph.addDisk(nodeName, disk, options);
  }

  /** The breakpoints of a blkdebug node. Throws QmpError. */
  async breakpoints(nodeName: string): Promise<Breakpoints> {
    const { engine } = await this.#worksForUse();
    return engine.breakpoints(nodeName);
  }

  /** --monitor. Throws QmpError. */
  addMonitor({ chardev: id, mode = 'control', pretty = false }: MonitorOptions): void {
    this.#refuseAtTheEnd();
    const chardev = this.chardevs.find(id);
    if (chardev === undefined) throw new QmpError(`chardev "${id}" not found`);
    if (mode !== 'control') throw new QmpError('Only QMP is supported');
    const { log, events, packageName } = this;
    this.#monitors.push(
      new QmpMonitor({
        chardev,
        pretty,
        queue: this.#queue,
        respond: (message, session) => this.#respond(message, session),
        events,
        log,
        packageName,
      }),
    );
  }

  /** Lets monitors carry out commands; what they were sent until then has waited. */
  start(): void {
    this.#queue.start();
    this.#start();
  }

  objectModel(): QomNode {
    return qomTree(this.objects, this.chardevs.objectModel());
  }

  /** The `quit` command: resolves when exports and nodes are gone; monitors go after its response is out. */
  async quit(): Promise<void> {
    this.#ending = true;
    await this.#works?.engine.close();
    void this.#closeRest();
  }

  /** Ends everything in the reference's order: exports, nodes, monitors, chardevs. */
  async close(): Promise<void> {
    this.#ending = true;
    const works = await this.#loading;
    await works?.engine.close();
    await this.#closeRest();
  }

  /** For the program around. Throws QmpError when the end has begun, be it while this loads. */
  async #worksForUse(): Promise<Works> {
    this.#refuseAtTheEnd();
    const works = await this.load();
    this.#refuseAtTheEnd();
    return works;
  }

  #refuseAtTheEnd(): void {
    if (this.#ending) throw new QmpError('The daemon has ended');
  }

  async #respond(message: JsonValue, session: RequestSession): Promise<QmpMessage | undefined> {
    const { handle_qmp_command, monitor_qmp_respond } = this.trace;
    if (handle_qmp_command.enabled) handle_qmp_command.log({ request: writeJson(message) });
    const { dispatcher } = await this.load();
    const response = await dispatcher.respond(message, session);
    if (monitor_qmp_respond.enabled) monitor_qmp_respond.log({ response: writeJson(response) });
    return response;
  }

  async #load(): Promise<Works> {
    const [{ Engine }, { Dispatcher }, { handlers }] = await Promise.all([
      import('./engine.ts'),
      import('./monitor/dispatcher.ts'),
      import('./monitor/handlers/index.ts'),
    ]);
    const { log, trace, events, objects } = this;
    this.#works = {
      engine: new Engine({
        log,
        trace,
        events,
        objects,
        poller: this.#poller,
        print: this.#printNow,
      }),
      dispatcher: new Dispatcher<DaemonServices>({ handlers, daemon: this, log }),
    };
    return this.#works;
  }

  #closeRest(): Promise<void> {
    this.#closing ??= this.#closeMonitors();
    return this.#closing;
  }

  async #closeMonitors(): Promise<void> {
    // The command that runs may be waiting for one.
    this.chardevs.abandonOpening();
    await this.#queue.close();
    for (const monitor of this.#monitors) monitor.close();
    await this.chardevs.close();
    this.events.close();
    this.objects.close();
    this.#poller.close();
    this.#end();
  }
}
