// The block graph of one engine: all nodes, by name and in order, and the ways in and out of it. Everything of the block
// layer hangs off it; there is no state elsewhere.

import { type Clock, systemClock } from '../base/clock.ts';
import type { IoBuffer, MaybePromise } from '../base/io-buffer.ts';
import type { Logger } from '../base/log.ts';
import { noRing, type RingSource } from '../base/request-ring.ts';
import type { Trace } from '../base/trace.ts';
import type { ObjectLookup } from '../object/user-object.ts';
import { QmpError } from '../qapi/errors.ts';
import type { EventSink } from '../qapi/event-sink.ts';
import type {
  BlockdevCreateOptions,
  BlockdevDriver,
  BlockdevOptions,
  BlockdevRef,
  XDbgBlockGraph,
} from '../qapi/generated/types.ts';
import { activate, inactivate, inactivateAll } from './activation.ts';
import { type BackendOptions, BlockBackend } from './block-backend.ts';
import { BlockChild } from './block-child.ts';
import type { BlockDriver, ChildRole, PermissionPair } from './block-driver.ts';
import type { BlockNode } from './block-node.ts';
import { BouncePool } from './bounce-pool.ts';
import { abandon, closeUnused, type NodeRegister } from './close-node.ts';
import { describeGraph } from './describe-graph.ts';
import type { Disk } from './disk.ts';
import { drainBegin } from './drain.ts';
import type { CreateContext, DescriptorPoller } from './driver-context.ts';
import { blockDrivers } from './drivers/index.ts';
import { LIBRARY_DISK, libraryDisk } from './drivers/library-disk.ts';
import { attachEdge, attachRoot, detachEdge, nodeAsParent, reaches } from './edges.ts';
import type { GraphAccess } from './graph-access.ts';
import { checkNodeName, NodeNameGenerator } from './node-names.ts';
import { checkNotBlocked } from './op-blockers.ts';
import type { OpenEnvironment } from './open.ts';
import { openNode, rootDefaults } from './open.ts';
import { childPermissions, cumulativePermissions } from './permissions.ts';
import { type ReopenEnvironment, reopen, setReadOnly } from './reopen.ts';

/** Drivers by name: all that a schema lists, or for a test some of them and its own. */
export type BlockDrivers = { readonly [Name in BlockdevDriver]?: BlockDriver };

export interface BlockGraphOptions {
  readonly log: Logger;
  readonly trace: Trace;
  readonly poller: DescriptorPoller;
  readonly objects: ObjectLookup;
  readonly events: EventSink;
  /** Default: the machine's. */
  readonly clock?: Clock;
  /** Zeroed, page-aligned memory (sys/memory.ts), for bounce buffers. */
  readonly allocate: (length: number) => IoBuffer;
  /** Default: there is none. */
  readonly ring?: RingSource;
  /** Lines for the person who started the daemon. Default: nobody sees them. */
  readonly print?: (text: string) => void;
  /** Default: block/drivers/index.ts. */
  readonly drivers?: BlockDrivers;
}

/** Carries out a change when it is its turn. */
type Turn = <T>(work: () => Promise<T>) => Promise<T>;

export class BlockGraph {
  /** For what happens to nodes and is nobody's answer. */
  readonly events: EventSink;
  readonly #log: Logger;
  readonly #print: (text: string) => void;
  /** Files of the host that exports of this engine are in the place of, by absolute names; they note them here. */
  readonly servedFiles = new Set<string>();
  /** In the order in which they were made. */
  readonly #nodes = new Map<string, BlockNode>();
  /** The edges of owners' handles, by the handles' names. */
  readonly #owners = new Map<BlockChild, string>();
  readonly #names = new NodeNameGenerator();
  readonly #drivers: BlockDrivers;
  readonly #environment: OpenEnvironment;
  readonly #register: NodeRegister;
  /** Adding, deleting and letting go of nodes, one at a time. */
  #changes: Promise<unknown> = Promise.resolve();
  readonly #closing = new AbortController();
  /** Nodes that are being opened beside the changes, for one owner. */
  readonly #alone = new Set<BlockNode>();

  constructor(options: BlockGraphOptions) {
    this.events = options.events;
    this.#log = options.log;
    this.#print = options.print ?? (() => {});
    this.#drivers = options.drivers ?? blockDrivers;
    this.#register = {
      log: options.log,
      forget: (node) => this.#nodes.delete(node.nodeName),
    };
    this.#environment = {
      services: {
        log: options.log,
        events: options.events,
        trace: options.trace,
        poller: options.poller,
        objects: options.objects,
        clock: options.clock ?? systemClock,
        fdsByNumber: false,
        signal: this.#closing.signal,
        servedFiles: this.servedFiles,
        allocate: options.allocate,
        ring: options.ring ?? noRing,
      },
      pool: new BouncePool(options.allocate),
      driver: (name) => this.#driver(name),
      find: (reference) => this.#known(reference),
      lookUp: (name) => this.lookUp(name),
      nodeName: (given) => this.#nodeName(given),
      register: (node) => this.#nodes.set(node.nodeName, node),
      abandon: (node) => abandon(this.#register, node),
      attach: (parent, child, name, role) => this.#attach(parent, child, name, role),
      closeUnused: (node) => closeUnused(this.#register, node),
    };
  }

  /**
   * blockdev-add. Throws QmpError with the reference's text; nothing stays open then. `fdsByNumber`: descriptors in socket
   * addresses are numbers, as on the command line; a monitor has none.
   */
  add(
    options: BlockdevOptions,
    { fdsByNumber }: { readonly fdsByNumber: boolean } = { fdsByNumber: false },
  ): Promise<BlockNode> {
    return this.#change(async () => {
      this.#closing.signal.throwIfAborted();
      checkNamed(options['node-name']);
      const services = { ...this.#environment.services, fdsByNumber };
      const environment = { ...this.#environment, services };
      const node = await openNode(environment, options, rootDefaults);
      node.monitorOwned = true;
      return node;
    });
  }

  /** A node whose disk is code of the program around. Throws QmpError. */
  async addDisk(
    nodeName: string,
    disk: Disk,
    options: { readonly readOnly: boolean },
  ): Promise<BlockNode> {
    const driver = libraryDisk(disk, this.#log);
    const definition = {
      driver: LIBRARY_DISK,
      'node-name': nodeName,
      'read-only': options.readOnly || disk.write === undefined,
    };
    return this.#change(async () => {
      this.#closing.signal.throwIfAborted();
      // A program need not have been compiled with types.
      checkNamed(nodeName);
      const environment = { ...this.#environment, driver: () => driver };
      // No type of the schema: these are the members that all drivers have.
      const node = await openNode(
        environment,
        definition as unknown as BlockdevOptions,
        rootDefaults,
      );
      node.monitorOwned = true;
      return node;
    });
  }

  /** blockdev-del. Throws QmpError when the node is in use, is not the monitor's, or not there. */
  remove(nodeName: string): Promise<void> {
    return this.#change(async () => {
      const node = this.#nodes.get(nodeName);
      if (node === undefined) {
        throw new QmpError(`Failed to find node with node-name='${nodeName}'`);
      }
      if (node.parents.some((user) => user.parent.parentNode === undefined)) {
        throw new QmpError(`Node ${nodeName} is in use`);
      }
      checkNotBlocked(node);
      if (!node.monitorOwned) throw new QmpError(`Node ${nodeName} is not owned by the monitor`);
      if (node.parents.length + node.holds > 0) {
        throw new QmpError(`Block device ${nodeName} is in use`);
      }
      for (const bitmap of node.dirtyBitmaps) bitmap.checkNotBusy();
      node.monitorOwned = false;
      await closeUnused(this.#register, node);
    });
  }

  /** blockdev-reopen: all nodes of the list take their new options, or none. Throws QmpError with the reference's text. */
  reopen(list: readonly BlockdevOptions[]): Promise<void> {
    return this.#change(() => reopen(this.#reopening(), list));
  }

  /**
   * blockdev-set-active: a node, or all of them. Throws QmpError with the reference's text; everything is as before then, but for
   * nodes that became active before one of all that cannot.
   */
  setActive(nodeName: string | undefined, active: boolean): Promise<void> {
    return this.#change(async () => {
      const named = nodeName === undefined ? undefined : this.lookUp(nodeName);
      if (nodeName !== undefined && named === undefined) {
        throw new QmpError(`Failed to find node with node-name='${nodeName}'`);
      }
      const nodes = named === undefined ? [...this.nodes()].reverse() : [named];
      if (!active) {
        await (named === undefined
          ? inactivateAll(nodes, this.#log)
          : inactivate(named, this.#log));
        return;
      }
      for (const node of nodes) await activate(node, this.#log);
    });
  }

  /** Carries out a change of several parts; no other one happens meanwhile. */
  change<T>(work: (access: GraphAccess) => Promise<T>): Promise<T> {
    return this.#change(() => work(this.#access()));
  }

  /** Looks an open node up as the reference does; devices do not exist. Throws `Cannot find device='..' nor node-name='..'`. */
  find(device: string | undefined, nodeName: string | undefined): BlockNode {
    const node = nodeName === undefined ? undefined : this.lookUp(nodeName);
    if (node !== undefined) return node;
    throw notFound(device ?? '', nodeName ?? '');
  }

  /** The open node of that name. */
  lookUp(nodeName: string): BlockNode | undefined {
    const node = this.#nodes.get(nodeName);
    return node?.phase === 'open' && !this.#alone.has(node) ? node : undefined;
  }

  /** A new owner's handle on a node. Throws QmpError with the conflict text. */
  backend(node: BlockNode, options: BackendOptions): BlockBackend {
    return this.#backend(node, options, (work) => this.#change(work));
  }

  /**
   * What makes an image, for blockdev-create. Where it waits for a server it gives up when `signal` is aborted, and holds up no
   * other change of the graph. Throws QmpError when the driver's images cannot be made.
   */
  imageMaker(
    options: BlockdevCreateOptions,
    signal: AbortSignal = new AbortController().signal,
  ): () => MaybePromise<void> {
    return this.#imageMaker(options, (work) => this.#change(work), signal);
  }

  /** All nodes, implicit ones included, newest first. */
  nodes(): Iterable<BlockNode> {
    return [...this.#nodes.values()]
      .filter((node) => node.phase === 'open' && !this.#alone.has(node))
      .reverse();
  }

  /** x-debug-query-block-graph. */
  describe(): XDbgBlockGraph {
    return describeGraph(this.#owners, [...this.nodes()].reverse());
  }

  /** Waits until no node has a request in flight; holds new ones back meanwhile. */
  async drain(): Promise<void> {
    const end = await this.#drainAll();
    end();
  }

  /** Whoever waits for somebody outside of this program gives up: opens first of all, behind which everything else would wait. */
  stopWaiting(): void {
    this.#closing.abort(new QmpError('The daemon has ended'));
  }

  /** Flushes and closes everything nobody else holds; what fails is logged and does not stop the rest. */
  close(): Promise<void> {
    this.stopWaiting();
    return this.#change(async () => {
      for (const node of [...this.#nodes.values()].filter((one) => one.monitorOwned)) {
        node.monitorOwned = false;
        await closeUnused(this.#register, node);
      }
    });
  }

  async #drainAll(): Promise<() => void> {
    const ends = await Promise.all([...this.#nodes.values()].map((node) => drainBegin(node)));
    return () => {
      for (const end of ends) end();
    };
  }

  #access(): GraphAccess {
    return {
      log: this.#log,
      print: this.#print,
      find: (device, nodeName) => this.find(device, nodeName),
      lookUp: (name) => this.lookUp(name),
      driver: (name) => this.#driverNamed(name),
      open: (options, { readOnly, autoReadOnly, active, cacheDirect, cacheNoFlush, unmap }) =>
        openNode(this.#environment, options, {
          ...rootDefaults,
          readOnly,
          autoReadOnly,
          active,
          cacheDirect,
          cacheNoFlush,
          unmap,
        }),
      attach: (parent, child, name, role) => this.#attach(parent, child, name, role),
      make: async (options) => this.#imageMaker(options, (work) => work())(),
      closeUnused: (node) => closeUnused(this.#register, node),
      setReadOnly: (node, readOnly) => setReadOnly(this.#reopening(), node, readOnly),
      setActive: (node, active) =>
        active ? activate(node, this.#log) : inactivate(node, this.#log),
      drainAll: () => this.#drainAll(),
    };
  }

  #reopening(): ReopenEnvironment {
    return {
      find: (reference) => this.find(undefined, reference),
      lookUp: (name) => this.lookUp(name),
      closeUnused: (node) => closeUnused(this.#register, node),
    };
  }

  #backend(node: BlockNode, options: BackendOptions, turn: Turn): BlockBackend {
    return new BlockBackend({
      ...options,
      attach: (parent) => {
        const edge = attachRoot(node, parent, { perm: options.perm, shared: options.shared });
        this.#owners.set(edge, options.name ?? '');
        return edge;
      },
      detach: (child) => turn(() => this.#detach(child)),
    });
  }

  #imageMaker(
    options: BlockdevCreateOptions,
    turn: Turn,
    signal?: AbortSignal,
  ): () => MaybePromise<void> {
    const driver = this.#driver(options.driver);
    if (driver.create === undefined) throw new QmpError('Driver does not support blockdev-create');
    const context: CreateContext = {
      log: this.#log,
      servedFiles: this.servedFiles,
      allocate: this.#environment.services.allocate,
      find: (reference) => this.find(reference, reference),
      openBackend: (reference, pair) => this.#openBackend(reference, pair, turn, signal),
    };
    return () => driver.create?.(options as never, context);
  }

  #openBackend(
    reference: BlockdevRef,
    pair: PermissionPair,
    turn: Turn,
    signal?: AbortSignal,
  ): MaybePromise<BlockBackend> {
    if (typeof reference === 'string') {
      return this.#backend(this.find(reference, reference), pair, turn);
    }
    const own = async (node: BlockNode): Promise<BlockBackend> => {
      try {
        return this.#backend(node, pair, turn);
      } catch (error) {
        await closeUnused(this.#register, node);
        throw error;
      }
    };
    if (signal === undefined || this.#driver(reference.driver).kind !== 'protocol') {
      return turn(async () => own(await openNode(this.#environment, reference, rootDefaults)));
    }
    return this.#openAlone(reference, signal, (node) => turn(() => own(node)));
  }

  /** Opens a node that has no children while other changes go on; nobody finds it until `own` has been called. */
  async #openAlone<T>(
    options: BlockdevOptions,
    signal: AbortSignal,
    own: (node: BlockNode) => Promise<T>,
  ): Promise<T> {
    const either = AbortSignal.any([signal, this.#closing.signal]);
    either.throwIfAborted();
    let opening: BlockNode | undefined;
    const environment: OpenEnvironment = {
      ...this.#environment,
      services: { ...this.#environment.services, signal: either },
      register: (node) => {
        opening = node;
        this.#alone.add(node);
        this.#environment.register(node);
      },
    };
    try {
      return await own(await openNode(environment, options, rootDefaults));
    } finally {
      if (opening !== undefined) this.#alone.delete(opening);
    }
  }

  #change<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#changes.then(work);
    this.#changes = done.catch(() => {});
    return done;
  }

  /** A node, though it may be opening still: one that is its own child is told so. Throws QmpError. */
  #known(reference: string): BlockNode {
    const node = this.#nodes.get(reference);
    if (node === undefined || node.phase === 'closing' || this.#alone.has(node)) {
      throw notFound(reference, reference);
    }
    return node;
  }

  #driver(name: BlockdevDriver): BlockDriver {
    const driver = this.#driverNamed(name);
    if (driver === undefined) throw new QmpError(`Unknown driver '${name}'`);
    return driver;
  }

  /** The name may be one that an image has in its header. */
  #driverNamed(name: string): BlockDriver | undefined {
    return Object.hasOwn(this.#drivers, name) ? this.#drivers[name as BlockdevDriver] : undefined;
  }

  #nodeName(given: string | undefined): string {
    if (given === undefined) return this.#names.next();
    checkNodeName(given, (name) => this.#nodes.has(name));
    return given;
  }

  #attach(parent: BlockNode, child: BlockNode, name: string, role: ChildRole): BlockChild {
    if (reaches(child, parent)) {
      throw new QmpError(
        `Making '${child.nodeName}' a ${name} child of '${parent.nodeName}' would create a cycle`,
      );
    }
    const users = cumulativePermissions(parent);
    const pair: PermissionPair = childPermissions(parent, child, role, users);
    const edge = new BlockChild({ name, node: child, role, parent: nodeAsParent(parent), ...pair });
    attachEdge(edge);
    return edge;
  }

  async #detach(child: BlockChild): Promise<void> {
    const end = await drainBegin(child.node);
    detachEdge(child);
    this.#owners.delete(child);
    // A driver may have had something to finish now that nobody writes.
    await child.node.requests.whenIdle();
    end();
    await closeUnused(this.#register, child.node);
  }
}

function checkNamed(nodeName: string | undefined): void {
  if (nodeName === undefined) {
    throw new QmpError("'node-name' must be specified for the root node");
  }
}

function notFound(device: string, nodeName: string): QmpError {
  return new QmpError(`Cannot find device='${device}' nor node-name='${nodeName}'`);
}
