// Leaky buckets: what decides how long a request has to wait. Each limit is a bucket that requests fill and time empties at
// the rate of the limit; while it is over its brim, requests wait. The arithmetic is that of QEMU's docs/throttle.txt.

export const READ = 0;
export const WRITE = 1;
export type Direction = typeof READ | typeof WRITE;

/** In the order in which they are checked. */
export const bucketNames = [
  'bps-total',
  'bps-read',
  'bps-write',
  'iops-total',
  'iops-read',
  'iops-write',
] as const;
export type BucketName = (typeof bucketNames)[number];

/** One limit. Units are bytes for bps, operations for iops. */
export interface BucketLimit {
  /** Units a second in the long run; 0 for no limit. */
  readonly rate: number;
  /** Units a second during a burst; 0 for bursts of a tenth of a second at `rate`. */
  readonly burstRate: number;
  /** Seconds that a burst at `burstRate` may last. */
  readonly burstSeconds: number;
}

export interface ThrottleLimits {
  readonly buckets: Readonly<Record<BucketName, BucketLimit>>;
  /** Bytes above which an operation counts as several; 0 for never. */
  readonly operationSize: number;
}

export const noLimits: ThrottleLimits = {
  buckets: Object.fromEntries(
    bucketNames.map((name) => [name, { rate: 0, burstRate: 0, burstSeconds: 1 }]),
  ) as Record<BucketName, BucketLimit>,
  operationSize: 0,
};

interface Bucket {
  readonly limit: BucketLimit;
  level: number;
  /** The same for bursts of more than a second, emptied at the rate of the burst. */
  burstLevel: number;
}

/** By direction, what is filled with bytes and what with operations. */
const counted = [
  { bytes: ['bps-total', 'bps-read'], operations: ['iops-total', 'iops-read'] },
  { bytes: ['bps-total', 'bps-write'], operations: ['iops-total', 'iops-write'] },
] as const satisfies Record<Direction, object>;

export class ThrottleBuckets {
  readonly limits: ThrottleLimits;
  readonly #all: readonly Bucket[];
  readonly #bytes: readonly (readonly Bucket[])[];
  readonly #operations: readonly (readonly Bucket[])[];
  #emptiedAt: number;

  /** All empty at `now` (milliseconds). */
  constructor(limits: ThrottleLimits, now: number) {
    this.limits = limits;
    const bucket = (name: BucketName): Bucket => ({
      limit: limits.buckets[name],
      level: 0,
      burstLevel: 0,
    });
    const byName = new Map(bucketNames.map((name) => [name, bucket(name)]));
    const limiting = (names: readonly BucketName[]): Bucket[] =>
      names.flatMap((name) => byName.get(name) ?? []).filter(({ limit }) => limit.rate > 0);
    this.#all = limiting(bucketNames);
    this.#bytes = counted.map(({ bytes }) => limiting(bytes));
    this.#operations = counted.map(({ operations }) => limiting(operations));
    this.#emptiedAt = now;
  }

  /** True when there is any limit. */
  get limited(): boolean {
    return this.#all.length > 0;
  }

  /** Milliseconds from `now` until a request in that direction may go; 0 for at once. */
  wait(direction: Direction, now: number): number {
    this.#leak(now);
    let longest = 0;
    for (const bucket of this.#bytes[direction] ?? []) longest = Math.max(longest, waitFor(bucket));
    for (const bucket of this.#operations[direction] ?? []) {
      longest = Math.max(longest, waitFor(bucket));
    }
    // Less than a nanosecond is nothing: clocks do not tell it.
    return Math.floor(longest * 1e6) / 1e6;
  }

  /** Counts a request that goes. */
  account(direction: Direction, bytes: number): void {
    const { operationSize } = this.limits;
    const operations = operationSize > 0 && bytes > operationSize ? bytes / operationSize : 1;
    for (const bucket of this.#bytes[direction] ?? []) fill(bucket, bytes);
    for (const bucket of this.#operations[direction] ?? []) fill(bucket, operations);
  }

  #leak(now: number): void {
    const seconds = (now - this.#emptiedAt) / 1000;
    if (seconds <= 0) return;
    this.#emptiedAt = now;
    for (const bucket of this.#all) {
      const { rate, burstRate } = bucket.limit;
      bucket.level = Math.max(0, bucket.level - rate * seconds);
      bucket.burstLevel = Math.max(0, bucket.burstLevel - burstRate * seconds);
    }
  }
}

function fill(bucket: Bucket, units: number): void {
  bucket.level += units;
  if (bucket.limit.burstSeconds > 1) bucket.burstLevel += units;
}

function waitFor({ limit, level, burstLevel }: Bucket): number {
  const { rate, burstRate, burstSeconds } = limit;
  const brim = burstRate === 0 ? rate / 10 : burstRate * burstSeconds;
  if (level > brim) return ((level - brim) / rate) * 1000;
  if (burstSeconds <= 1) return 0;
  const burstBrim = burstRate / 10;
  return burstLevel > burstBrim ? ((burstLevel - burstBrim) / burstRate) * 1000 : 0;
}
