// The object type `throttle-group`: limits that the nodes of the driver `throttle` share.

import { QmpError } from '../qapi/errors.ts';
import type { ThrottleLimits as GivenLimits } from '../qapi/generated/types.ts';
import type { JsonValue } from '../qapi/json-value.ts';
import { membersInOrder } from '../qapi/member-order.ts';
import { noLimits, type ThrottleLimits } from './throttle-buckets.ts';
import {
  changedLimits,
  checkLimits,
  isTooLong,
  limitOf,
  shownLimits,
  withLimit,
} from './throttle-limits.ts';
import { ThrottleQueue } from './throttle-queue.ts';
import type { ObjectProperty, OptionsOf, UserObjectType } from './user-object.ts';

/** Properties of single limits are named so. */
const PREFIX = 'x-';

/** In the order in which the reference lists them. */
const propertyNames = [
  'x-bps-write-max-length',
  'x-iops-total-max-length',
  'x-iops-size',
  'limits',
  'x-bps-total',
  'x-iops-read-max-length',
  'x-bps-write',
  'x-iops-write-max-length',
  'x-bps-read-max',
  'x-iops-read-max',
  'x-bps-total-max',
  'x-bps-read-max-length',
  'x-iops-read',
  'x-bps-read',
  'x-bps-write-max',
  'x-iops-total-max',
  'x-iops-total',
  'x-iops-write',
  'x-bps-total-max-length',
  'x-iops-write-max',
] as const satisfies readonly (keyof OptionsOf<'throttle-group'>)[];

export const throttleGroup: UserObjectType<'throttle-group', ThrottleQueue> = {
  name: 'throttle-group',
  parent: 'object',
  properties: propertyNames.map((name) => (name === 'limits' ? allLimits() : oneLimit(name))),
  check: limitsFrom,
  create(options, { clock }) {
    const limits = limitsFrom(options);
    checkLimits(limits);
    return new ThrottleQueue(limits, clock);
  },
  inUse: (queue) => queue.inUse,
};

function allLimits(): ObjectProperty<ThrottleQueue> {
  return {
    name: 'limits',
    type: 'ThrottleLimits',
    get: ({ limits }) => shownLimits(limits) as JsonValue,
    set: (queue, value) => queue.setLimits(changedLimits(queue.limits, value as GivenLimits)),
  };
}

/** One limit alone makes no sense of others that are there, so they can be set only when the group is made. */
function oneLimit(name: string): ObjectProperty<ThrottleQueue> {
  return {
    name,
    type: 'int',
    get: ({ limits }) => limitOf(limits, name.slice(PREFIX.length)),
    set: () => {},
    fixed: 'Property cannot be set after initialization',
  };
}

/** Applies the options one after the other, in the reference's order. Throws QmpError. */
function limitsFrom(options: OptionsOf<'throttle-group'>): ThrottleLimits {
  let limits = noLimits;
  for (const name of membersInOrder(options)) {
    const value: unknown = options[name as keyof typeof options];
    if (name === 'limits') limits = changedLimits(limits, value as GivenLimits);
    else if (name.startsWith(PREFIX)) limits = withOption(limits, name, value as number);
  }
  return limits;
}

function withOption(limits: ThrottleLimits, name: string, value: number): ThrottleLimits {
  const limit = name.slice(PREFIX.length);
  if (value < 0) throw new QmpError('Property values cannot be negative');
  if (isTooLong(limit, value)) {
    throw new QmpError(`${name} value must be in therange [0, ${2 ** 32 - 1}]`);
  }
  return withLimit(limits, limit, value);
}
