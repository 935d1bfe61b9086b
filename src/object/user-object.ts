// What a user-creatable object is: a row of facts and functions for its type, and a state. The rows stand in object-types.ts.

import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import type { Trace } from '../base/trace.ts';
import type { ObjectOptions, ObjectType } from '../qapi/generated/types.ts';
import type { JsonValue } from '../qapi/json-value.ts';

export type OptionsOf<Name extends ObjectType> = Extract<ObjectOptions, { 'qom-type': Name }>;

/** One property as qom-list, qom-get and qom-set see it. */
export interface ObjectProperty<State> {
  readonly name: string;
  /** The reference's name for its type: `string`, `bool`, `QAuthZListPolicy`, ... */
  readonly type: string;
  get(state: State): JsonValue;
  /** Takes a value that the schema has accepted for this member; absent when the property is read-only. */
  set?(state: State, value: unknown): void;
  /** Why it can be set only when the object is made, as users are told. */
  readonly fixed?: string;
}

export interface UserObjectType<Name extends ObjectType = ObjectType, State = unknown> {
  readonly name: Name;
  /** The type it derives from. */
  readonly parent: string;
  /** In the order in which qom-list names them, after `type`. */
  readonly properties: readonly ObjectProperty<State>[];
  /** What the reference refuses while it sets properties: before it sees whether the id is taken. Throws QmpError. */
  check?(options: OptionsOf<Name>): void;
  /** Checks the options and makes the state, at once or later. Throws or rejects with QmpError. */
  create(options: OptionsOf<Name>, context: ObjectContext): State | Promise<State>;
  /** Something uses the object, so that it cannot be deleted. */
  inUse?(state: State): boolean;
  /** Lets go of what the state holds outside: the object is gone, though some may still use its state. */
  destroy?(state: State): void;
}

/** What an object may use of its surroundings. */
export interface ObjectContext {
  readonly objects: ObjectLookup;
  readonly trace: Trace;
  readonly log: Logger;
  readonly clock: Clock;
}

/** How the rest of the daemon finds objects. */
export interface ObjectLookup {
  /** The object `id`, whatever its type. */
  find(id: string): UserObject | undefined;
}

export interface UserObject<State = unknown> {
  readonly id: string;
  readonly type: UserObjectType<ObjectType, State>;
  readonly state: State;
}

/** The state of `object` when it is of the type in `row`. */
export function stateOf<Name extends ObjectType, State>(
  object: UserObject,
  row: UserObjectType<Name, State>,
): State | undefined {
  return object.type.name === row.name ? (object.state as State) : undefined;
}
