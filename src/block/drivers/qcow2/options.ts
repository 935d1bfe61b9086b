// What the options of an image decide besides its caches: late refcounts, which metadata writes are checked against, which
// freed clusters are discarded in the file.

import { QmpError } from '../../../qapi/errors.ts';
import type {
  BlockdevOptionsQcow2,
  Qcow2OverlapCheckFlags,
  Qcow2OverlapCheckMode,
} from '../../../qapi/generated/types.ts';
import { COMPAT_LAZY_REFCOUNTS } from './features.ts';
import type { MetadataKind } from './overlap.ts';

/** Why clusters become free. `never`: what the caller discards itself, or what will be used again soon. */
export type FreeCause = 'never' | 'always' | 'request' | 'snapshot' | 'other';

export interface ImageSettings {
  /** Refcounts may be written late: the image is marked as dirty then. */
  readonly lazyRefcounts: boolean;
  /** Metadata that nothing else may be written to. */
  readonly guarded: ReadonlySet<MetadataKind>;
  /** Clusters that are freed for this cause are discarded in the file, too. */
  readonly discards: Readonly<Record<FreeCause, boolean>>;
}

/** In the order in which a template adds them. */
const kindsByFlag = {
  'main-header': 'header',
  'active-l1': 'active L1 table',
  'active-l2': 'active L2 table',
  'refcount-table': 'refcount table',
  'refcount-block': 'refcount block',
  'snapshot-table': 'snapshot table',
  'inactive-l1': 'inactive L1 table',
  'inactive-l2': 'inactive L2 table',
  'bitmap-directory': 'bitmap directory',
} as const satisfies Record<Exclude<keyof Qcow2OverlapCheckFlags, 'template'>, MetadataKind>;

type Flag = keyof typeof kindsByFlag;

const constant: readonly Flag[] = [
  'main-header',
  'active-l1',
  'refcount-table',
  'snapshot-table',
  'bitmap-directory',
];
const cached: readonly Flag[] = [...constant, 'active-l2', 'refcount-block', 'inactive-l1'];
const templates = {
  none: [],
  constant,
  cached,
  all: [...cached, 'inactive-l2'],
} as const satisfies Record<Qcow2OverlapCheckMode, readonly Flag[]>;

/** `unmap`: of the node. Throws QmpError. */
export function imageSettings(
  options: BlockdevOptionsQcow2,
  image: { readonly version: number; readonly compatible: bigint; readonly unmap: boolean },
): ImageSettings {
  return {
    lazyRefcounts: usesLazyRefcounts(options, image),
    guarded: guardedKinds(options['overlap-check'] ?? 'cached'),
    discards: {
      never: false,
      always: true,
      request: options['pass-discard-request'] ?? image.unmap,
      snapshot: options['pass-discard-snapshot'] ?? true,
      other: options['pass-discard-other'] ?? false,
    },
  };
}

/** As the option says, or else the image. */
function usesLazyRefcounts(
  options: BlockdevOptionsQcow2,
  { version, compatible }: { readonly version: number; readonly compatible: bigint },
): boolean {
  const isLazy = options['lazy-refcounts'] ?? (compatible & COMPAT_LAZY_REFCOUNTS) !== 0n;
  if (isLazy && version < 3) {
    throw new QmpError(
      'Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level',
    );
  }
  return isLazy;
}

/** A template, each of whose flags may be given otherwise. */
function guardedKinds(
  checks: Qcow2OverlapCheckMode | Qcow2OverlapCheckFlags,
): ReadonlySet<MetadataKind> {
  const given: Qcow2OverlapCheckFlags = typeof checks === 'string' ? { template: checks } : checks;
  const template: readonly Flag[] = templates[given.template ?? 'cached'];
  const kinds = new Set<MetadataKind>();
  for (const [flag, kind] of Object.entries(kindsByFlag) as [Flag, MetadataKind][]) {
    if (given[flag] ?? template.includes(flag)) kinds.add(kind);
  }
  return kinds;
}
