// The objects that users make with --object and object-add, by their ids: what hangs under /objects in the object model.

import { type Clock, systemClock } from '../base/clock.ts';
import { GlibStringSet } from '../base/glib-hash-table.ts';
import { type Logger, silentLogger } from '../base/log.ts';
import { createTrace, type Trace } from '../base/trace.ts';
import { QmpError } from '../qapi/errors.ts';
import type { ObjectOptions } from '../qapi/generated/types.ts';
import { objectTypeRow } from './object-types.ts';
import type { ObjectLookup, UserObject } from './user-object.ts';

const ID = /^[A-Za-z][A-Za-z0-9._-]*$/;

export class ObjectRegistry implements ObjectLookup {
  readonly #trace: Trace;
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #objects = new Map<string, UserObject>();
  /** Ids of those that are being made. */
  readonly #making = new Set<string>();
  /** Ids in the order in which qom-list walks them. */
  readonly #names = new GlibStringSet();
  #touched = false;

  constructor(
    options: { readonly trace?: Trace; readonly log?: Logger; readonly clock?: Clock } = {},
  ) {
    this.#trace = options.trace ?? createTrace();
    this.#log = options.log ?? silentLogger;
    this.#clock = options.clock ?? systemClock;
  }

  /** object-add, done at once or later. Throws or rejects with QmpError; nothing is left behind then. */
  add(options: ObjectOptions): UserObject | Promise<UserObject> {
    const { id, 'qom-type': typeName } = options;
    if (!ID.test(id)) {
      throw new QmpError(`Parameter 'id' expects an identifier`, {
        hint: `Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.`,
      });
    }
    const type = objectTypeRow(typeName);
    refuseUnwritable(options, type);
    type.check?.(options);
    this.#touched = true;
    if (this.#objects.has(id) || this.#making.has(id)) {
      throw new QmpError(`attempt to add duplicate property '${id}' to object (type 'container')`);
    }
    // As the reference does, so that its hash table's history is ours: the name comes first, and goes again on failure.
    this.#names.add(id);
    try {
      const state = type.create(options, {
        objects: this,
        trace: this.#trace,
        log: this.#log,
        clock: this.#clock,
      });
      return state instanceof Promise
        ? this.#addLater({ id, type }, state)
        : this.#register({ id, type, state });
    } catch (error) {
      this.#names.delete(id);
      throw error;
    }
  }

  /** object-del. Throws QmpError when there is no such object, or something uses it. */
  remove(id: string): void {
    this.#touched = true;
    const object = this.#objects.get(id);
    if (object === undefined) throw new QmpError(`object '${id}' not found`);
    if (object.type.inUse?.(object.state) === true) {
      throw new QmpError(`object '${id}' is in use, can not be deleted`);
    }
    this.#objects.delete(id);
    this.#names.delete(id, { walking: true });
    object.type.destroy?.(object.state);
  }

  /** The daemon ends: objects let go of what they hold. */
  close(): void {
    for (const { type, state } of this.#objects.values()) type.destroy?.(state);
    this.#objects.clear();
  }

  find(id: string): UserObject | undefined {
    this.#touched = true;
    return this.#objects.get(id);
  }

  /** Ids in the reference's order, which is the reverse of its hash table's. */
  ids(): string[] {
    return [...this.#names].reverse();
  }

  /** False until the first use: the reference makes /objects only then. */
  get exists(): boolean {
    return this.#touched;
  }

  async #addLater(
    { id, type }: Pick<UserObject, 'id' | 'type'>,
    later: Promise<unknown>,
  ): Promise<UserObject> {
    this.#making.add(id);
    try {
      return this.#register({ id, type, state: await later });
    } catch (error) {
      this.#names.delete(id);
      throw error;
    } finally {
      this.#making.delete(id);
    }
  }

  #register(object: UserObject): UserObject {
    this.#objects.set(object.id, object);
    return object;
  }
}

/** Properties that an option names but nobody may set, in the order of the options. */
function refuseUnwritable(options: ObjectOptions, type: UserObject['type']): void {
  for (const name of Object.keys(options)) {
    const property = type.properties.find((candidate) => candidate.name === name);
    if (property !== undefined && property.set === undefined) {
      throw new QmpError(`Property '${type.name}.${name}' is not writable`);
    }
  }
}
