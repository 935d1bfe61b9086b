// How large the caches of tables are: from the options, as the reference works it out.

import { QmpError } from '../../../qapi/errors.ts';
import type { BlockdevOptionsQcow2 } from '../../../qapi/generated/types.ts';
import type { Geometry } from './image.ts';

const DEFAULT_L2_CACHE = 32 * 1024 * 1024;
const DEFAULT_CLEAN_INTERVAL = 600;
const DEFAULT_SLICE = 4096;
const SMALLEST_SLICE = 512;
const MIN_L2_TABLES = 2;
const MIN_REFCOUNT_BLOCKS = 4;
const MAX_INT = 2 ** 31 - 1;
const MAX_UINT = 2 ** 32 - 1;

export interface CacheSizes {
  /** Bytes of an L2 table that are cached as one. */
  readonly l2EntrySize: number;
  /** Tables, at most. */
  readonly l2Capacity: number;
  readonly refcountCapacity: number;
  /** Seconds; 0 for never. */
  readonly cleanInterval: number;
}

/** Throws QmpError when the options contradict each other or are out of range. */
export function cacheSizes(
  options: BlockdevOptionsQcow2,
  { size: length }: { readonly size: number },
  geometry: Omit<Geometry, 'sliceSize'>,
): CacheSizes {
  const { clusterSize, l2EntrySize } = geometry;
  const total = size(options, 'cache-size');
  const l2Given = size(options, 'l2-cache-size');
  const refcountGiven = size(options, 'refcount-cache-size');
  const sliceGiven = size(options, 'l2-cache-entry-size');
  const clusters = Math.ceil(length / clusterSize);
  const largest = Math.ceil((clusters * l2EntrySize) / clusterSize) * clusterSize;
  const minRefcount = MIN_REFCOUNT_BLOCKS * clusterSize;
  let l2 = Math.min(largest, l2Given ?? DEFAULT_L2_CACHE);
  let refcount = refcountGiven ?? 0;
  if (total !== undefined) {
    if (l2Given !== undefined && refcountGiven !== undefined) {
      throw new QmpError(
        'cache-size, l2-cache-size and refcount-cache-size may not be set at the same time',
      );
    }
    if (l2Given !== undefined && l2Given > total) {
      throw new QmpError('l2-cache-size may not exceed cache-size');
    }
    if (refcount > total) throw new QmpError('refcount-cache-size may not exceed cache-size');
    if (l2Given !== undefined) {
      refcount = total - l2;
    } else if (refcountGiven !== undefined) {
      l2 = total - refcount;
    } else {
      refcount = total >= largest + minRefcount ? total - largest : Math.min(total, minRefcount);
      l2 = total - refcount;
    }
  }
  // Parts of tables cost less to load and to drop where not all of them can be here.
  const slice = sliceGiven ?? (l2 < largest ? Math.min(clusterSize, DEFAULT_SLICE) : clusterSize);
  if (slice < SMALLEST_SLICE || slice > clusterSize || !Number.isInteger(Math.log2(slice))) {
    throw new QmpError(
      `L2 cache entry size must be a power of two between ${SMALLEST_SLICE} and the cluster size (${clusterSize})`,
    );
  }
  const cleanInterval = options['cache-clean-interval'] ?? DEFAULT_CLEAN_INTERVAL;
  const l2Capacity = Math.max(MIN_L2_TABLES, Math.floor(l2 / slice));
  const refcountCapacity = Math.max(MIN_REFCOUNT_BLOCKS, Math.floor(refcount / clusterSize));
  if (l2Capacity > MAX_INT) throw new QmpError('L2 cache size too big');
  if (refcountCapacity > MAX_INT) throw new QmpError('Refcount cache size too big');
  if (cleanInterval < 0 || cleanInterval > MAX_UINT) {
    throw new QmpError('Cache clean interval too big');
  }
  return { l2EntrySize: slice, l2Capacity, refcountCapacity, cleanInterval };
}

function size(
  options: BlockdevOptionsQcow2,
  name: 'cache-size' | 'l2-cache-size' | 'refcount-cache-size' | 'l2-cache-entry-size',
): number | undefined {
  const value = options[name];
  if (value !== undefined && value < 0) {
    throw new QmpError(`Parameter '${name}' expects a non-negative number below 2^64`, {
      hint:
        'Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n' +
        'and exabytes, respectively.',
    });
  }
  return value;
}
