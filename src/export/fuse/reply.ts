// What stands behind the header of a reply, by kind.

import type { FuseFile } from './fuse-file.ts';
import type { ReplyKind } from './operations.ts';
import {
  ATTR_OUT_SIZE,
  FUSE_ROOT_ID,
  LSEEK_OUT_SIZE,
  OPEN_OUT_SIZE,
  STATFS_OUT_SIZE,
  WRITE_OUT_SIZE,
} from './protocol.ts';
import { encodeAttributes, encodeLseek, encodeOpen, encodeStatfs, encodeWrite } from './wire.ts';

/** Seconds for which the kernel need not ask for attributes again. */
const ATTRIBUTES_VALID = 1;

/** What statfs(2) tells: nothing that would be true of a file. */
const STATFS = { blockSize: 512, nameLength: 255 } as const;

interface ReplyRow {
  /** Bytes. */
  readonly length: number;
  /** Encodes what an operation has answered. */
  encode(view: DataView, at: number, result: number, file: FuseFile): void;
}

/** Data stand in their buffer already, and are not encoded. */
export const replies = {
  empty: { length: 0, encode() {} },
  attributes: {
    length: ATTR_OUT_SIZE,
    encode: (view, at, _, file) =>
      encodeAttributes(view, at, file.attributes(), {
        node: FUSE_ROOT_ID,
        valid: ATTRIBUTES_VALID,
      }),
  },
  open: { length: OPEN_OUT_SIZE, encode: encodeOpen },
  written: { length: WRITE_OUT_SIZE, encode: encodeWrite },
  place: { length: LSEEK_OUT_SIZE, encode: encodeLseek },
  statfs: { length: STATFS_OUT_SIZE, encode: (view, at) => encodeStatfs(view, at, STATFS) },
} as const satisfies Readonly<Record<Exclude<ReplyKind, 'data'>, ReplyRow>>;
