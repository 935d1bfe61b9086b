// Block status: what the L2 tables say, in the bits of the block layer.

import type { MaybePromise } from '../../../base/io-buffer.ts';
import {
  BLOCK_DATA,
  BLOCK_OFFSET_VALID,
  BLOCK_ZERO,
  type BlockStatus,
  type BlockStatusFlags,
} from '../../block-driver.ts';
import { checkUsable } from './corruption.ts';
import type { Qcow2Image } from './image.ts';
import {
  COMPRESSED,
  DATA,
  emptyMapping,
  type Mapping,
  map,
  mapCached,
  UNALLOCATED,
  UNALLOCATED_AT,
  ZERO,
  ZERO_AT,
} from './mapping.ts';

/** By MappingKind. */
const statusOfKind: readonly BlockStatusFlags[] = Object.assign([], {
  [UNALLOCATED]: 0,
  [UNALLOCATED_AT]: BLOCK_OFFSET_VALID,
  [ZERO]: BLOCK_ZERO,
  [ZERO_AT]: BLOCK_ZERO | BLOCK_OFFSET_VALID,
  [DATA]: BLOCK_DATA | BLOCK_OFFSET_VALID,
  [COMPRESSED]: BLOCK_DATA,
});

/** What lies at `offset`, in one L2 slice. */
export function imageStatus(
  image: Qcow2Image,
  offset: number,
  length: number,
): MaybePromise<BlockStatus> {
  checkUsable(image);
  const mapping = image.scratchMapping;
  if (mapCached(image, offset, length, mapping)) return statusFrom(image, mapping);
  return loaded(image, offset, length);
}

async function loaded(image: Qcow2Image, offset: number, length: number): Promise<BlockStatus> {
  const mapping = emptyMapping();
  await map(image, offset, length, mapping);
  return statusFrom(image, mapping);
}

function statusFrom(image: Qcow2Image, mapping: Mapping): BlockStatus {
  const status = statusOfKind[mapping.kind] ?? 0;
  const { length } = mapping;
  if ((status & BLOCK_OFFSET_VALID) === 0) return { status, length };
  return { status, length, hostOffset: mapping.hostOffset, file: image.dataFile.node };
}
