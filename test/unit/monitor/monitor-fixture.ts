// A monitor on a loopback chardev, with handlers that a test chooses.

import type { Logger } from '../../../src/base/log.ts';
import { CommandQueue } from '../../../src/monitor/command-queue.ts';
import { Dispatcher } from '../../../src/monitor/dispatcher.ts';
import { EventBroadcast } from '../../../src/monitor/event-broadcast.ts';
import { controlHandlers } from '../../../src/monitor/handlers/control.ts';
import { QmpMonitor } from '../../../src/monitor/qmp-monitor.ts';
import type { CommandHandlers } from '../../../src/qapi/generated/commands.ts';
import { LoopbackChardev } from './loopback-chardev.ts';

export interface FixtureServices {
  readonly packageName: string;
  quit(): Promise<void>;
}

type Handlers = Partial<CommandHandlers<FixtureServices>>;

export interface MonitorFixture {
  readonly chardev: LoopbackChardev;
  readonly monitor: QmpMonitor;
  readonly queue: CommandQueue;
  readonly events: EventBroadcast;
  readonly dispatcher: Dispatcher<FixtureServices>;
  /** Lines of the log, `error: ...`. */
  readonly logged: string[];
  /** Another monitor on the same queue and events. */
  readonly another: (options?: { readonly pretty?: boolean }) => LoopbackChardev;
}

export const GREETING =
  '{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "test 1"}, "capabilities": ["oob"]}}';
export const NEGOTIATE = '{"execute":"qmp_capabilities"}';
export const WITH_OOB = '{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}';

/** `handlers` are added to those of control.json; the others are missing. */
export function monitorFixture(handlers: Handlers = {}): MonitorFixture {
  const logged: string[] = [];
  const log: Logger = {
    error: (message) => logged.push(`error: ${message}`),
    warn: (message) => logged.push(`warning: ${message}`),
    debug: () => {},
  };
  const daemon: FixtureServices = { packageName: 'test 1', quit: async () => {} };
  const all = { ...controlHandlers, ...handlers } as unknown as CommandHandlers<FixtureServices>;
  const dispatcher = new Dispatcher({ handlers: all, daemon, log });
  const queue = new CommandQueue(log);
  const events = new EventBroadcast();
  const make = (pretty: boolean) => {
    const chardev = new LoopbackChardev();
    const monitor = new QmpMonitor({
      chardev,
      pretty,
      queue,
      respond: (message, session) => dispatcher.respond(message, session),
      events,
      log,
      packageName: daemon.packageName,
    });
    chardev.open();
    return { chardev, monitor };
  };
  queue.start();
  const another = ({ pretty = false } = {}) => make(pretty).chardev;
  return { ...make(false), queue, events, dispatcher, logged, another };
}

/** A command that answers when told to. */
export function gate(): { readonly passed: Promise<void>; readonly open: () => void } {
  let open = () => {};
  const passed = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { passed, open: () => open() };
}
