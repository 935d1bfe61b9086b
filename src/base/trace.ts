// Named trace points, the counterpart of the reference's trace events: each has a name that --trace patterns match, and is
// off until one does. On the data path guard the call: `if (trace.nbd_receive_request.enabled) ...`.

import type { LogFields } from './log.ts';

/** Every trace point: name and what it tells. Names are the reference's where it has the same event. */
export const tracePointNames = {
  nbd_server_client_connected: 'A peer connected to the NBD server',
} as const satisfies Readonly<Record<string, string>>;

export type TracePointName = keyof typeof tracePointNames;

export class TracePoint {
  enabled = false;
  readonly name: string;
  readonly #write: (name: string, fields: LogFields) => void;

  constructor(name: string, write: (name: string, fields: LogFields) => void) {
    this.name = name;
    this.#write = write;
  }

  log(fields: LogFields = {}): void {
    if (this.enabled) this.#write(this.name, fields);
  }
}

export type Trace = { readonly [Name in TracePointName]: TracePoint };

/** A set of trace points, all off. `write` receives the ones that are switched on later. */
export function createTrace(write: (name: string, fields: LogFields) => void = () => {}): Trace {
  return Object.fromEntries(
    Object.keys(tracePointNames).map((name) => [name, new TracePoint(name, write)]),
  ) as Trace;
}
