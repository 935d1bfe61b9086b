// What the cases of NBD commands share.

import type { Request } from '../../case.ts';
import { KIB, MIB } from '../../sizes.ts';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
} from '../../wire-steps.ts';

export const SIZE = 10 * MIB;
export const MAX = 32 * MIB;

export const read = (offset: number | bigint, length: number, flags = 0): Request => ({
  type: NBD_CMD_READ,
  offset,
  length,
  flags,
});
export const write = (offset: number | bigint, payload: Uint8Array, flags = 0): Request => ({
  type: NBD_CMD_WRITE,
  offset,
  payload,
  flags,
});
export const bytes = (length: number, byte = 0x77): Uint8Array => Buffer.alloc(length, byte);
export const command = (
  type: number,
  offset: number | bigint,
  length: number,
  flags = 0,
): Request => ({
  type,
  offset,
  length,
  flags,
});

export const ping = read(64 * KIB, 4);

export const st = (offset: number, length: number, flags = 0): Request =>
  command(NBD_CMD_BLOCK_STATUS, offset, length, flags);

export const zero = (offset: number, length: number, flags = 0): Request =>
  command(NBD_CMD_WRITE_ZEROES, offset, length, flags);
export const trim = (offset: number, length: number, flags = 0): Request =>
  command(NBD_CMD_TRIM, offset, length, flags);
