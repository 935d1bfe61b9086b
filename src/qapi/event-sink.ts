// Where events go. Components get one in their constructor; the daemon's broadcasts to every negotiated monitor.

import type { EventName, Events } from './generated/events.ts';

export interface EventSink {
  /** Emits a QAPI event; the payload's shape is the schema's. */
  emit<Name extends EventName>(name: Name, payload: Events[Name]): void;
}
