// FUSE_INIT: what the kernel offers and what is taken of it.

import { ProtocolError } from '../../base/errors.ts';
import {
  FUSE_ASYNC_DIO,
  FUSE_ASYNC_READ,
  FUSE_ATOMIC_O_TRUNC,
  FUSE_AUTO_INVAL_DATA,
  FUSE_BIG_WRITES,
  FUSE_KERNEL_VERSION,
  FUSE_MAX_PAGES,
  MAX_TRANSFER,
  OLDEST_MINOR_VERSION,
} from './protocol.ts';
import type { InitReply, InitRequest } from './wire.ts';

/**
 * Several reads at once, direct ones too; data that changed otherwise are noticed; O_TRUNC comes with the open request, where
 * it has no effect: an image is overwritten, and keeps its length.
 */
const WANTED =
  FUSE_ASYNC_READ |
  FUSE_ATOMIC_O_TRUNC |
  FUSE_BIG_WRITES |
  FUSE_AUTO_INVAL_DATA |
  FUSE_ASYNC_DIO |
  FUSE_MAX_PAGES;

/** Requests that the kernel may have under way for its own purposes: reading ahead, asynchronous I/O. */
const MAX_BACKGROUND = 64;
const CONGESTION_THRESHOLD = 48;

/** Without FUSE_MAX_PAGES no request is longer than this many bytes. */
const OLD_MAX_TRANSFER = 128 * 1024;

/** The reply. Throws ProtocolError when there is no common ground. */
export function negotiate(
  { major, minor, maxReadahead, flags }: InitRequest,
  pageSize: number,
): InitReply {
  // A newer major version is told ours, and asks again.
  if (major < FUSE_KERNEL_VERSION) {
    throw new ProtocolError('FUSE major version', major, FUSE_KERNEL_VERSION);
  }
  if (major === FUSE_KERNEL_VERSION && minor < OLDEST_MINOR_VERSION) {
    throw new ProtocolError('FUSE minor version', minor, OLDEST_MINOR_VERSION);
  }
  const taken = flags & WANTED;
  const large = (taken & FUSE_MAX_PAGES) !== 0;
  return {
    maxReadahead,
    flags: taken,
    maxBackground: MAX_BACKGROUND,
    congestionThreshold: CONGESTION_THRESHOLD,
    maxWrite: large ? MAX_TRANSFER : OLD_MAX_TRANSFER,
    maxPages: large ? MAX_TRANSFER / pageSize : 0,
  };
}
