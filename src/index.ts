// The package's public API: the daemon in this process, a QMP client, and the generated types.

import { createLineLogger, type Logger, type ProcessLogger } from './base/log.ts';
import { throwLater } from './base/throw-later.ts';
import type { Breakpoints } from './block/debug-breakpoints.ts';
import type { Disk } from './block/disk.ts';
import { packageName } from './cli/version.ts';
import { parsedJson } from './client/parsed-json.ts';
import { Daemon } from './daemon.ts';
import type { QmpMessage } from './monitor/request.ts';
import { QmpError } from './qapi/errors.ts';
import type { CommandName, Commands } from './qapi/generated/commands.ts';
import type { EventName, Events } from './qapi/generated/events.ts';
import { isJsonObject } from './qapi/json-value.ts';

export type { Logger } from './base/log.ts';
export type { Breakpoints } from './block/debug-breakpoints.ts';
export type { Disk, DiskStatus } from './block/disk.ts';
export {
  type ExecuteOptions,
  type QmpAddress,
  QmpClient,
  type QmpClientOptions,
  QmpConnectionError,
  type QmpEvent,
  type QmpGreeting,
} from './client/qmp-client.ts';
export { QmpError, type QmpErrorClass } from './qapi/errors.ts';
export type { CommandName, Commands } from './qapi/generated/commands.ts';
export type { EventName, Events } from './qapi/generated/events.ts';
export type * from './qapi/generated/types.ts';

export interface CreateDaemonOptions {
  /** Where errors and warnings go. Default: lines on stderr. */
  readonly log?: Logger;
}

/** A storage daemon in this process. It has no monitor until it gets one; commands come through `execute`. */
export interface InProcessDaemon {
  /** Carries out a QMP command. Throws QmpError. */
  execute<Name extends CommandName>(
    command: Name,
    ...args: Record<string, never> extends Commands[Name]['arguments']
      ? [args?: Commands[Name]['arguments']]
      : [args: Commands[Name]['arguments']]
  ): Promise<Commands[Name]['returns']>;
  /**
   * Calls `listener` for each event from now on; returns how to stop that. What it throws becomes an `uncaughtException`, and
   * nothing that goes on in the daemon fails of it.
   */
  on<Name extends EventName>(name: Name, listener: (data: Events[Name]) => void): () => void;
  /**
   * Makes a block node whose disk is an object of the caller's; exports and other nodes use it like any other, and `blockdev-del`
   * takes it away. Read-only if asked for, or if the disk has no `write`. Throws QmpError.
   */
  addDisk(nodeName: string, disk: Disk, options?: { readonly readOnly?: boolean }): Promise<void>;
  /**
   * The breakpoints of a `blkdebug` node, at which requests wait until they are resumed. The reference has them for qemu-io only.
   * Throws QmpError when there is no such node.
   */
  breakpoints(nodeName: string): Promise<Breakpoints>;
  /** Offers QMP on a chardev that `chardev-add` has made. */
  addMonitor(options: { readonly chardev: string; readonly pretty?: boolean }): void;
  /** Resolves when the daemon has ended: by `close`, or by a `quit` that came in on a monitor. */
  readonly ended: Promise<void>;
  /** Ends exports, nodes, monitors and chardevs. */
  close(): Promise<void>;
}

/** Makes a daemon. Several may live side by side; they share nothing. */
export function createDaemon(options: CreateDaemonOptions = {}): InProcessDaemon {
  const daemon = new Daemon({
    log: processLogger(options.log),
    packageName,
    print() {},
    printNow() {},
  });
  daemon.start();
  return {
    execute: async (command, ...[args]) => daemon.execute(command, parsedArguments(args ?? {})),
    on(name, listener) {
      const target = {
        event: ({ event, data }: QmpMessage) => {
          if (event !== name) return;
          try {
            listener((data ?? {}) as Events[typeof name]);
          } catch (error) {
            throwLater(error);
          }
        },
      };
      daemon.events.add(target);
      return () => daemon.events.remove(target);
    },
    addDisk: (nodeName, disk, { readOnly = false } = {}) =>
      daemon.addDisk(nodeName, disk, { readOnly }),
    breakpoints: (nodeName) => daemon.breakpoints(nodeName),
    addMonitor: (monitor) => daemon.addMonitor(monitor),
    ended: daemon.ended,
    close: () => daemon.close(),
  };
}

/** Arguments as a monitor would have read them. Throws QmpError. */
function parsedArguments<T extends object>(args: T): T {
  const parsed = parsedJson(args);
  if (!isJsonObject(parsed)) throw new QmpError("QMP input member 'arguments' must be an object");
  return parsed as T;
}

function processLogger(log: Logger | undefined): ProcessLogger {
  const lines = createLineLogger('qmp-storage-daemon', (line) => process.stderr.write(line));
  if (log === undefined) return lines;
  return {
    location: { kind: 'none' },
    error: (message, fields) => log.error(message, fields),
    warn: (message, fields) => log.warn(message, fields),
    debug: (message, fields) => log.debug(message, fields),
    trace: (name, fields) => log.debug(name, fields),
  };
}
