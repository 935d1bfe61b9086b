// Where an image's metadata lie, so that nothing else is written there: in a sound image nothing ever would be.

import { corruption } from './corruption.ts';
import { HEADER_LENGTH } from './header.ts';
import type { Qcow2Image } from './image.ts';
import { tableOffset } from './l1-l2.ts';

/** What a write to metadata leaves out of the check: its own kind. */
export type MetadataKind =
  | 'header'
  | 'active L1 table'
  | 'active L2 table'
  | 'refcount table'
  | 'refcount block'
  | 'snapshot table'
  | 'inactive L1 table'
  | 'inactive L2 table'
  | 'bitmap directory';

interface Range {
  readonly start: number;
  readonly end: number;
  readonly kind: MetadataKind;
}

/** Kinds of single clusters, by the bit that tells them apart in the sorted list. */
const clusterKinds = ['active L2 table', 'refcount block', 'inactive L2 table'] as const;
export type ClusterKind = (typeof clusterKinds)[number];

const KINDS = clusterKinds.length;

export class MetadataMap {
  readonly #clusterSize: number;
  /** Tables that are few and large. */
  #ranges: Range[];
  /** The cluster's index times the number of kinds, and the kind: 8 bytes for each table, whatever an image claims. */
  readonly #sorted: Float64Array;
  readonly #added = new Set<number>();

  constructor(image: Qcow2Image) {
    const { geometry, l1, l1Entries, refcountTable, refcountTableEntries, inactiveTables } = image;
    this.#clusterSize = geometry.clusterSize;
    this.#ranges = rangesOf(image);
    const all = new Float64Array(l1Entries + refcountTableEntries + inactiveTables.length);
    let count = 0;
    const add = (offset: number, kind: ClusterKind): void => {
      if (offset !== 0) all[count++] = this.#key(offset, kind);
    };
    for (let index = 0; index < l1Entries; index++) {
      add(tableOffset(l1.view, index * 8), 'active L2 table');
    }
    for (let index = 0; index < refcountTableEntries; index++) {
      add(tableOffset(refcountTable.view, index * 8), 'refcount block');
    }
    for (const offset of inactiveTables) add(offset, 'inactive L2 table');
    this.#sorted = all.subarray(0, count).sort();
  }

  /** What there is in the clusters of an area, of some kinds or all, but for one; undefined when there is nothing. */
  find(
    offset: number,
    length: number,
    kinds?: ReadonlySet<MetadataKind>,
    ignored?: MetadataKind,
  ): MetadataKind | undefined {
    const clusterSize = this.#clusterSize;
    const first = Math.floor(offset / clusterSize);
    const last = Math.floor((offset + length - 1) / clusterSize);
    for (const { start, end, kind } of this.#ranges) {
      if (
        start < (last + 1) * clusterSize &&
        first * clusterSize < end &&
        isAmong(kind, kinds, ignored)
      ) {
        return kind;
      }
    }
    const sorted = this.#sorted;
    for (let at = lowerBound(sorted, first * KINDS); at < sorted.length; at++) {
      const key = sorted[at] ?? Number.POSITIVE_INFINITY;
      if (key >= (last + 1) * KINDS) break;
      const kind = clusterKinds[key % KINDS];
      if (kind !== undefined && isAmong(kind, kinds, ignored)) return kind;
    }
    return this.#added.size === 0 ? undefined : this.#findAdded(first, last, kinds, ignored);
  }

  /** Notes a new table in one cluster. */
  add(offset: number, kind: ClusterKind): void {
    this.#added.add(this.#key(offset, kind));
  }

  /** A table that was noted is not to be after all. */
  remove(offset: number, kind: ClusterKind): void {
    this.#added.delete(this.#key(offset, kind));
  }

  /** The large tables have moved. */
  tablesMoved(image: Qcow2Image): void {
    this.#ranges = rangesOf(image);
  }

  #key(offset: number, kind: ClusterKind): number {
    return Math.floor(offset / this.#clusterSize) * KINDS + clusterKinds.indexOf(kind);
  }

  #findAdded(
    first: number,
    last: number,
    kinds: ReadonlySet<MetadataKind> | undefined,
    ignored: MetadataKind | undefined,
  ): MetadataKind | undefined {
    for (let key = first * KINDS; key < (last + 1) * KINDS; key++) {
      const kind = clusterKinds[key % KINDS];
      if (kind === undefined || !this.#added.has(key)) continue;
      if (isAmong(kind, kinds, ignored)) return kind;
    }
    return undefined;
  }
}

/** The image's map, made when it is first needed. */
export function metadataOf(image: Qcow2Image): MetadataMap {
  image.metadata ??= new MetadataMap(image);
  return image.metadata;
}

/** Throws IoError, and gives the image up, when a write would hit metadata. `ignored`: what is being written. */
export function checkOverlap(
  image: Qcow2Image,
  offset: number,
  length: number,
  ignored?: MetadataKind,
): void {
  const hit = metadataOf(image).find(offset, length, image.settings.guarded, ignored);
  if (hit === undefined) return;
  const name = hit === 'header' ? 'qcow2_header' : hit;
  throw corruption(image, `Preventing invalid write on metadata (overlaps with ${name})`, {
    offset,
    length,
  });
}

function isAmong(
  kind: MetadataKind,
  kinds: ReadonlySet<MetadataKind> | undefined,
  ignored: MetadataKind | undefined,
): boolean {
  return kind !== ignored && (kinds === undefined || kinds.has(kind));
}

function rangesOf(image: Qcow2Image): Range[] {
  const range = (start: number, length: number, kind: MetadataKind): Range => ({
    start,
    end: start + length,
    kind,
  });
  const ranges = [
    range(0, Math.max(image.geometry.clusterSize, HEADER_LENGTH), 'header'),
    range(image.l1Offset, image.l1Entries * 8, 'active L1 table'),
    range(image.refcountTableOffset, image.refcountTableEntries * 8, 'refcount table'),
    range(image.snapshotsOffset, image.snapshotsLength, 'snapshot table'),
    ...image.snapshots.map((one) => range(one.l1Offset, one.l1Entries * 8, 'inactive L1 table')),
    range(image.bitmaps.offset, image.bitmaps.length, 'bitmap directory'),
  ];
  return ranges.filter(({ start, end }) => end > start);
}

function lowerBound(sorted: Float64Array, key: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] ?? 0) < key) low = middle + 1;
    else high = middle;
  }
  return low;
}
