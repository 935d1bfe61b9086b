// A QMP monitor: the frontend of one chardev. Greets each peer that connects, gives it a session, writes responses and events
// as lines, and stops reading while the peer does not read.

import type { Logger } from '../base/log.ts';
import type { Chardev, ChardevFrontend } from '../net/chardev/chardev.ts';
import type { QMPCapability } from '../qapi/generated/types.ts';
import { writeJson } from '../qapi/json-writer.ts';
import type { CommandQueue } from './command-queue.ts';
import type { EventBroadcast, EventListener } from './event-broadcast.ts';
import { QmpSession, type QmpSessionOptions } from './qmp-session.ts';
import type { QmpMessage } from './request.ts';
import { versionInfo } from './version.ts';

export interface QmpMonitorOptions {
  readonly chardev: Chardev;
  /** `pretty=on`: one member a line. */
  readonly pretty: boolean;
  readonly queue: CommandQueue;
  readonly respond: QmpSessionOptions['respond'];
  readonly events: EventBroadcast;
  readonly log: Logger;
  /** As in DaemonServices. */
  readonly packageName: string;
}

/** Bytes of events kept for a peer that does not read; what comes after is lost to it, and said so in the log. */
const MAX_UNREAD_EVENT_BYTES = 16 * 1024 * 1024;

/** What the greeting offers: nothing where no command can come in anyway, as the reference has it. */
function capabilities({ hasInput }: Chardev): readonly QMPCapability[] {
  return hasInput ? ['oob'] : [];
}

export class QmpMonitor implements ChardevFrontend, EventListener {
  readonly #options: QmpMonitorOptions;
  #session: QmpSession | undefined;
  /** The peer has not read what was written: wait for onDrain. */
  #stalled = false;
  #unreadEventBytes = 0;

  /**
   * Attaches to the chardev; greets at once when a peer is there already.
   *
   * @throws QmpError when the chardev has another frontend
   */
  constructor(options: QmpMonitorOptions) {
    this.#options = options;
    options.events.add(this);
    try {
      options.chardev.attach(this);
    } catch (error) {
      options.events.remove(this);
      throw error;
    }
  }

  onOpen(): void {
    this.#stalled = false;
    this.#unreadEventBytes = 0;
    const { queue, respond, chardev } = this.#options;
    const offered = capabilities(chardev);
    const session: QmpSession = new QmpSession({
      queue,
      respond,
      offered,
      // A command may outlive its peer: what it has to say is not for the next one.
      say: (message) => session !== this.#session || this.#write(message),
      acceptInput: (accept) => {
        if (session === this.#session) chardev.acceptInput(accept);
      },
    });
    this.#session = session;
    this.#write({
      QMP: { version: versionInfo(this.#options.packageName), capabilities: offered },
    });
  }

  /** What the peer asked for is still carried out, and answered where output is open: stdin may end before stdout does. */
  onClose(): void {
    this.#stalled = false;
    this.#session?.resume();
  }

  onInput(bytes: Uint8Array): void {
    this.#session?.receive(bytes);
  }

  onDrain(): void {
    if (!this.#stalled) return;
    this.#stalled = false;
    this.#unreadEventBytes = 0;
    this.#session?.resume();
  }

  event(message: QmpMessage): void {
    if (this.#session?.negotiated !== true) return;
    if (this.#unreadEventBytes > MAX_UNREAD_EVENT_BYTES) return;
    this.#write(message);
  }

  /** Leaves the chardev. */
  close(): void {
    this.#options.events.remove(this);
    this.#options.chardev.detach();
    this.#session = undefined;
  }

  #write(message: QmpMessage): boolean {
    const { chardev, pretty, log } = this.#options;
    const text = writeJson(message, { pretty });
    const line = `${pretty ? text.replaceAll('\n', '\r\n') : text}\r\n`;
    const bytes = Buffer.from(line, 'latin1');
    if (this.#stalled) {
      this.#unreadEventBytes += bytes.length;
      if (this.#unreadEventBytes > MAX_UNREAD_EVENT_BYTES) {
        log.warn(`Monitor '${chardev.id}' does not read; events are lost to it`);
      }
    }
    if (!chardev.write(bytes)) this.#stalled = true;
    return !this.#stalled;
  }
}
