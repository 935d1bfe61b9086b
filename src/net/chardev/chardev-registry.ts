// All chardevs of one daemon, by id.

import { GlibStringSet } from '../../base/glib-hash-table.ts';
import type { IoBuffer } from '../../base/io-buffer.ts';
import type { Logger } from '../../base/log.ts';
import { QmpError } from '../../qapi/errors.ts';
import type {
  ChardevBackend,
  ChardevBackendInfo,
  ChardevInfo,
  ChardevReturn,
} from '../../qapi/generated/types.ts';
import { allocate } from '../../sys/memory.ts';
import type { Poller } from '../../sys/poller.ts';
import { backendKinds, backends } from './backends.ts';
import type { ChardevBase, ChardevPort, PortContext, PortObjects } from './chardev.ts';
import { ChardevSlot } from './chardev-slot.ts';
import {
  backendFromOptions,
  type ChardevOptions,
  formerKind,
  formerKinds,
  wantsMux,
} from './command-line.ts';
import type { RingbufPort } from './ringbuf.ts';

const noObjects: PortObjects = {
  tlsCredentials(id) {
    throw new QmpError(`No TLS credentials with id '${id}'`);
  },
  isAuthorized(id) {
    throw new QmpError(`Cannot find QAuthZ object ID ${id}`);
  },
};

const TRANSFER_BYTES = 64 * 1024;
// How long the end waits for peers that read slowly.
const LAST_OUTPUT_MS = 1000;

export interface ChardevRegistryOptions {
  readonly poller: Poller;
  readonly log: Logger;
  /** Whether stdin and stdout will be, or are, given up. */
  readonly daemonized?: boolean;
  /** Default: there are none. */
  readonly objects?: PortObjects;
  /** Lines for the person who started the daemon: which pseudo-terminal a chardev got. Standard output in the reference. */
  readonly print?: (text: string) => void;
  /** Ends the daemon: the wish of who sits at a multiplexer. */
  readonly quit?: () => void;
}

/** A chardev as qom-list and qom-get see it. */
export interface ChardevObject {
  readonly id: string;
  /** `chardev-socket`, ... */
  readonly type: string;
  /** The value of a property of its kind; undefined when there is none. */
  get(property: string): unknown;
}

export class ChardevRegistry {
  readonly #options: ChardevRegistryOptions;
  readonly #slots = new Map<string, ChardevSlot>();
  /** The ids, in the order in which the reference walks them. */
  readonly #order = new GlibStringSet();
  /** Chardevs that are being opened can be given up. */
  readonly #opening = new Set<AbortController>();
  /** Former names of kinds that have been warned of. */
  readonly #warned = new Set<string>();
  #input: IoBuffer | undefined;
  #output: IoBuffer | undefined;

  constructor(options: ChardevRegistryOptions) {
    this.#options = options;
  }

  /** Whether stdin and stdout are a chardev's. */
  get hasStdio(): boolean {
    return [...this.#slots.values()].some((slot) => slot.filename() === 'stdio');
  }

  /** chardev-add. Rejects QmpError. */
  async add(id: string, backend: ChardevBackend): Promise<ChardevReturn> {
    if (this.#slots.has(id)) throw new QmpError(`Chardev with id '${id}' already exists`);
    try {
      const slot = await this.#open(id, backend, 'qmp');
      return slot.port?.pty === undefined ? {} : { pty: slot.port.pty };
    } catch (error) {
      if (!(error instanceof QmpError)) throw error;
      const hint = error.hint === undefined ? {} : { hint: error.hint };
      throw new QmpError(`Failed to add chardev '${id}': ${error.desc}`, { ...hint, cause: error });
    }
  }

  /**
   * `--chardev`: resolves when the chardev is there, which for a waiting server is when its first peer is. Rejects QmpError.
   */
  async addFromCommandLine(options: ChardevOptions): Promise<void> {
    const { id } = options;
    this.#warnOfFormerKind(options);
    if (id === undefined) throw new QmpError('chardev: no id specified');
    const backend = backendFromOptions(options);
    const shared = wantsMux(options);
    const slot = await this.#open(shared ? `${id}-base` : id, backend, 'command-line');
    if (slot.port?.pty !== undefined) {
      this.#options.print?.(`char device redirected to ${slot.port.pty} (label ${slot.id})\n`);
    }
    if (!shared) return;
    try {
      await this.#open(id, { type: 'mux', data: { chardev: slot.id } }, 'command-line');
    } catch (error) {
      this.#forget(slot);
      throw error;
    }
  }

  /** chardev-change: a chardev without a user is replaced; no user can change over yet. Rejects QmpError. */
  async change(id: string, backend: ChardevBackend): Promise<ChardevReturn> {
    const slot = this.#slots.get(id);
    if (slot === undefined) throw new QmpError(`Chardev '${id}' does not exist`);
    if (slot.shared) throw new QmpError('Mux device hotswap not supported yet');
    if (slot.inUse) throw new QmpError('Chardev user does not support chardev hotswap');
    this.#forget(slot);
    return this.add(id, backend);
  }

  /** chardev-remove. Throws QmpError. */
  remove(id: string): void {
    const slot = this.#existing(id);
    if (slot.inUse) throw new QmpError(`Chardev '${id}' is busy`);
    this.#forget(slot);
  }

  /** chardev-send-break: no user of ours listens to breaks. Throws QmpError. */
  sendBreak(id: string): void {
    this.#existing(id);
  }

  /** query-chardev. */
  query(): ChardevInfo[] {
    const infos: ChardevInfo[] = [];
    for (const id of this.#order) {
      const slot = this.#slots.get(id);
      if (slot === undefined) continue;
      // Each goes in front of the ones before it.
      infos.unshift({ label: id, filename: slot.filename(), 'frontend-open': slot.attached });
    }
    return infos;
  }

  /** query-chardev-backends. */
  queryBackends(): ChardevBackendInfo[] {
    return backendKinds.map((name) => ({ name }));
  }

  /** A chardev, for one more user. */
  find(id: string): ChardevBase | undefined {
    return this.#slots.get(id)?.seat();
  }

  /** The chardevs as objects, in the order of their creation; undefined when there are none. */
  objectModel(): readonly ChardevObject[] | undefined {
    if (this.#slots.size === 0) return undefined;
    return [...this.#slots.values()].map((slot) => ({
      id: slot.id,
      type: `chardev-${slot.kind}`,
      get: (property) => slot.port?.property?.(property),
    }));
  }

  /** The ring buffer of a chardev. Throws QmpError. */
  ringbuf(device: string): { write(bytes: Uint8Array): void; read(max: number): Buffer } {
    const port = this.#slots.get(device)?.port;
    if (port === undefined) throw new QmpError(`Device '${device}' not found`);
    if (!isRingbuf(port)) throw new QmpError(`${device} is not a ringbuf device`);
    return port;
  }

  /** Gives up on those that are being opened: a server may wait for its first peer for ever. */
  abandonOpening(): void {
    for (const abort of this.#opening) abort.abort(new QmpError('The daemon is ending'));
  }

  /** Closes every chardev, removes sockets' files. Peers that read slowly are given a moment for what they have not read. */
  async close(): Promise<void> {
    this.abandonOpening();
    await this.#lastOutput();
    for (const slot of this.#slots.values()) slot.close();
    this.#slots.clear();
  }

  async #lastOutput(): Promise<void> {
    const sent = [...this.#slots.values()].flatMap(({ port }) => port?.whenSent?.() ?? []);
    let timer: NodeJS.Timeout | undefined;
    const enough = new Promise<void>((fulfil) => {
      timer = setTimeout(fulfil, LAST_OUTPUT_MS);
    });
    await Promise.race([Promise.all(sent), enough]);
    clearTimeout(timer);
  }

  async #open(
    id: string,
    backend: ChardevBackend,
    origin: PortContext['origin'],
  ): Promise<ChardevSlot> {
    const slot = new ChardevSlot(id, backend);
    const abort = new AbortController();
    this.#opening.add(abort);
    try {
      const open = backends[backend.type] as (
        options: object,
        context: PortContext,
      ) => Promise<ChardevPort>;
      slot.port = await open(backend.data, this.#context(slot, origin, abort.signal));
      // Only now, as in the reference: what cannot be opened is reported first.
      if (this.#slots.has(id)) {
        throw new QmpError(
          `attempt to add duplicate property '${id}' to object (type 'container')`,
        );
      }
      abort.signal.throwIfAborted();
    } catch (error) {
      slot.close();
      throw error;
    } finally {
      this.#opening.delete(abort);
    }
    this.#slots.set(id, slot);
    this.#order.add(id);
    return slot;
  }

  #warnOfFormerKind(options: ChardevOptions): void {
    const former = formerKind(options);
    if (former === undefined || this.#warned.has(former)) return;
    this.#warned.add(former);
    const { log } = this.#options;
    log.warn(`The alias '${former}' is deprecated, use '${formerKinds[former]}' instead`);
  }

  #context(slot: ChardevSlot, origin: PortContext['origin'], signal: AbortSignal): PortContext {
    const { poller, log, daemonized = false, objects = noObjects } = this.#options;
    this.#input ??= allocate(TRANSFER_BYTES);
    this.#output ??= allocate(TRANSFER_BYTES);
    return {
      id: slot.id,
      events: slot,
      poller,
      log,
      inputMemory: this.#input,
      outputMemory: this.#output,
      origin,
      daemonized,
      objects,
      hasStdio: () => this.hasStdio,
      find: (other) => this.find(other),
      say: (bytes) => slot.write(bytes),
      quit: () => this.#options.quit?.(),
      signal,
    };
  }

  #existing(id: string): ChardevSlot {
    const slot = this.#slots.get(id);
    if (slot === undefined) throw new QmpError(`Chardev '${id}' not found`);
    return slot;
  }

  #forget(slot: ChardevSlot): void {
    this.#slots.delete(slot.id);
    this.#order.delete(slot.id);
    slot.close();
  }
}

// By what it can do, so that ring buffers' code is only loaded where there are any.
function isRingbuf(port: ChardevPort): port is RingbufPort {
  return 'read' in port;
}
