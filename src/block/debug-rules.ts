// What a blkdebug node does when: rules that wait for an event, and become active, change the state, or both. Events are
// raised by formats and the request path (BlockDriver.debugEvent).

import { errno } from '../base/errno.ts';
import type {
  BlkdebugEvent,
  BlkdebugInjectErrorOptions,
  BlkdebugIOType,
  BlkdebugSetStateOptions,
} from '../qapi/generated/types.ts';

const SECTOR = 512;

/** The kinds of requests that fail when a rule does not say which. */
const USUAL: readonly BlkdebugIOType[] = ['read', 'write', 'write-zeroes', 'discard', 'flush'];

interface InjectRule {
  readonly event: BlkdebugEvent;
  /** 0 for any. */
  readonly state: number;
  readonly iotypes: readonly BlkdebugIOType[];
  /** 0 for none: the request goes through, and no later rule is asked. */
  readonly errno: number;
  /** Requests that touch this byte; undefined for all. */
  readonly offset: number | undefined;
  readonly once: boolean;
  readonly immediately: boolean;
}

interface StateRule {
  readonly event: BlkdebugEvent;
  readonly state: number;
  readonly newState: number;
}

/** How a request fails. */
export interface InjectedError {
  readonly errno: number;
  /** At once; otherwise a little later, as a disk would. */
  readonly immediately: boolean;
}

export interface RuleOptions {
  readonly injectError: readonly BlkdebugInjectErrorOptions[];
  readonly setState: readonly BlkdebugSetStateOptions[];
}

export class DebugRules {
  #state = 1;
  /** In the order in which they were given. */
  #inject: InjectRule[];
  readonly #changes: readonly StateRule[];
  /** The rules that the last event made active; empty while nothing is to fail. */
  #active: InjectRule[] = [];

  constructor({ injectError, setState }: RuleOptions) {
    this.#inject = injectError.map(injectRule);
    this.#changes = setState.map((rule) => ({
      event: rule.event,
      state: rule.state ?? 0,
      newState: rule.new_state,
    }));
  }

  event(event: BlkdebugEvent): void {
    const applies = (rule: { readonly event: BlkdebugEvent; readonly state: number }): boolean =>
      rule.event === event && (rule.state === 0 || rule.state === this.#state);
    const active = this.#inject.filter(applies);
    if (active.length > 0) this.#active = active;
    // All rules are held against the state before; the one that was given first has the last word.
    const change = this.#changes.find(applies);
    if (change !== undefined) this.#state = change.newState;
  }

  /** How a request on the area (bytes) fails; undefined when it does not. */
  failure(iotype: BlkdebugIOType, offset: number, length: number): InjectedError | undefined {
    if (this.#active.length === 0) return undefined;
    const rule = this.#active.find(
      (each) =>
        each.iotypes.includes(iotype) &&
        (each.offset === undefined || (each.offset >= offset && each.offset < offset + length)),
    );
    if (rule === undefined || rule.errno === 0) return undefined;
    if (rule.once) {
      this.#active = this.#active.filter((each) => each !== rule);
      this.#inject = this.#inject.filter((each) => each !== rule);
    }
    return rule;
  }
}

function injectRule(options: BlkdebugInjectErrorOptions): InjectRule {
  const { sector = -1 } = options;
  return {
    event: options.event,
    state: options.state ?? 0,
    iotypes: options.iotype === undefined ? USUAL : [options.iotype],
    errno: options.errno ?? errno.EIO,
    offset: sector === -1 ? undefined : sector * SECTOR,
    once: options.once ?? false,
    immediately: options.immediately ?? false,
  };
}
