// Limits as users write them, checked as the reference checks them.

import { QmpError } from '../qapi/errors.ts';
import type { ThrottleLimits as GivenLimits } from '../qapi/generated/types.ts';
import {
  type BucketLimit,
  type BucketName,
  bucketNames,
  type ThrottleLimits,
} from './throttle-buckets.ts';

/** Largest rate, in units a second. */
const MAX_RATE = 1e15;
/** Burst lengths are 32-bit numbers. */
const MAX_BURST_SECONDS = 2 ** 32 - 1;

/** Where a member of the limits stands: `bps-read-max` is the burst rate of the bucket `bps-read`. */
interface Place {
  readonly bucket: BucketName;
  readonly field: keyof BucketLimit;
}

const places: ReadonlyMap<string, Place> = new Map(
  bucketNames.flatMap((bucket): [string, Place][] => [
    [bucket, { bucket, field: 'rate' }],
    [`${bucket}-max`, { bucket, field: 'burstRate' }],
    [`${bucket}-max-length`, { bucket, field: 'burstSeconds' }],
  ]),
);

/** All names of limits, `iops-size` included. */
export const limitNames: readonly string[] = [...places.keys(), 'iops-size'];

export function limitOf({ buckets, operationSize }: ThrottleLimits, name: string): number {
  const place = places.get(name);
  return place === undefined ? operationSize : buckets[place.bucket][place.field];
}

/** The limits with one of them changed, not yet checked together. */
export function withLimit(limits: ThrottleLimits, name: string, value: number): ThrottleLimits {
  const place = places.get(name);
  if (place === undefined) return { ...limits, operationSize: value };
  const { bucket, field } = place;
  const changed = { ...limits.buckets[bucket], [field]: value };
  return { ...limits, buckets: { ...limits.buckets, [bucket]: changed } };
}

/** True for a burst length that is none. */
export function isTooLong(name: string, value: number): boolean {
  return places.get(name)?.field === 'burstSeconds' && value > MAX_BURST_SECONDS;
}

/** What is not given stays. Throws QmpError when the result makes no sense. */
export function changedLimits(limits: ThrottleLimits, given: GivenLimits): ThrottleLimits {
  let changed = limits;
  const all: ReadonlyMap<string, number> = new Map(Object.entries(given));
  for (const name of limitNames) {
    const value = all.get(name);
    if (value === undefined) continue;
    if (isTooLong(name, value)) {
      throw new QmpError(`${name} value must be in the range [0, ${MAX_BURST_SECONDS}]`);
    }
    changed = withLimit(changed, name, isLength(name) && value < 0 ? 2 ** 64 + value : value);
  }
  checkLimits(changed);
  return changed;
}

export function shownLimits(limits: ThrottleLimits): GivenLimits {
  return Object.fromEntries(limitNames.map((name) => [name, limitOf(limits, name)]));
}

/** Throws QmpError with the reference's text. */
export function checkLimits({ buckets, operationSize }: ThrottleLimits): void {
  for (const field of ['rate', 'burstRate'] as const) {
    for (const kind of ['bps', 'iops'] as const) {
      const parts = buckets[`${kind}-read`][field] !== 0 || buckets[`${kind}-write`][field] !== 0;
      if (buckets[`${kind}-total`][field] === 0 || !parts) continue;
      throw new QmpError(
        'bps/iops/max total values and read/write values cannot be used at the same time',
      );
    }
  }
  const operations = ['iops-total', 'iops-read', 'iops-write'] as const;
  if (operationSize !== 0 && operations.every((name) => buckets[name].rate === 0)) {
    throw new QmpError('iops size requires an iops value to be set');
  }
  for (const name of bucketNames) checkBucket(buckets[name]);
}

function checkBucket({ rate, burstRate, burstSeconds }: BucketLimit): void {
  if (!(rate >= 0 && rate <= MAX_RATE && burstRate >= 0 && burstRate <= MAX_RATE)) {
    throw new QmpError(`bps/iops/max values must be within [0, ${MAX_RATE}]`);
  }
  if (burstSeconds === 0) throw new QmpError('the burst length cannot be 0');
  if (burstSeconds > 1 && burstRate === 0) {
    throw new QmpError('burst length set without burst rate');
  }
  if (burstRate === 0) return;
  if (burstSeconds > Math.floor(MAX_RATE / burstRate)) {
    throw new QmpError('burst length too high for this burst rate');
  }
  if (rate === 0) {
    throw new QmpError('bps_max/iops_max require corresponding bps/iops values');
  }
  if (burstRate < rate) {
    throw new QmpError('bps_max/iops_max cannot be lower than bps/iops');
  }
}

function isLength(name: string): boolean {
  return places.get(name)?.field === 'burstSeconds';
}
