// Named trace points, the counterpart of the reference's trace events: each has a name that --trace patterns match, and is
// off until one does. On the data path guard the call: `if (trace.nbd_receive_request.enabled) ...`.

import type { LogFields } from './log.ts';

/** Every trace point: name and what it tells. Names are the reference's where it has the same event. */
export const tracePointNames = {
  // Monitor
  handle_qmp_command: 'A request came in on a monitor',
  monitor_qmp_respond: 'A response goes out on a monitor',
  monitor_protocol_event_emit: 'An event goes out to the monitors',
  // Objects
  qauthz_simple_is_allowed: 'An authz-simple object was asked about an identity',
  qauthz_list_check_rule: 'An authz-list object compares an identity with a rule',
  qauthz_list_default_policy: 'No rule of an authz-list object matched',
  qauthz_list_file_load: 'An authz-list-file object reads its file',
  qauthz_list_file_refresh: 'The file of an authz-list-file object has changed',
  qcrypto_tls_creds_x509_load: 'The files of TLS credentials are read',
  // Jobs
  job_state_transition: 'A job has a new status',
  job_apply_verb: 'Something is asked of a job',
  // FUSE exports
  fuse_init: 'The kernel and a FUSE export agree on how to go on',
  fuse_receive_request: 'The kernel sent a request to a FUSE export',
  // NBD server
  nbd_server_client_connected: 'A peer connected to the NBD server',
  nbd_negotiate_begin: 'A handshake begins',
  nbd_negotiate_options_flags: 'The client sent its flags',
  nbd_negotiate_options_check_option: 'The client sent an option',
  nbd_negotiate_send_rep_err: 'An option is refused',
  nbd_negotiate_handle_info_requests: 'The client asks for information on an export',
  nbd_negotiate_meta_context: 'The client asks for metadata contexts',
  nbd_negotiate_success: 'A handshake ended in the transmission phase',
  nbd_handshake_timer_cb: 'A handshake took too long',
  nbd_receive_request: 'A request came in',
  nbd_co_send_simple_reply: 'A simple reply goes out',
  nbd_co_send_structured_done: 'The last chunk of a structured reply goes out',
  nbd_co_send_structured_read: 'A chunk with data goes out',
  nbd_co_send_structured_read_hole: 'A chunk with a hole goes out',
  nbd_co_send_structured_error: 'A chunk with an error goes out',
  nbd_co_send_extents: 'A chunk with block status goes out',
  nbd_co_receive_align_compliance: 'A request was not aligned as advertised',
  // NBD client
  nbd_client_handshake_success: 'A node has a connection to its server',
  nbd_client_connection_end: 'A connection to a server has ended by itself',
  nbd_reconnect_attempt: 'A connection to a server is looked for anew',
  nbd_reconnect_attempt_result: 'An attempt to connect failed',
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
