// An image whose metadata make no sense: said once, marked in the image where it may be written, and not used any further.

import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import { INCOMPAT_CORRUPT } from './features.ts';
import { AT_INCOMPATIBLE } from './header.ts';
import { rewriteHeader } from './header-rewrite.ts';
import type { Qcow2Image } from './image.ts';

/** `0x12`; nothing but `0` for 0, as printf does. */
export function hex(value: number): string {
  return value === 0 ? '0' : `0x${value.toString(16)}`;
}

/** The access to the file that would have done harm; bytes. */
export interface Access {
  readonly offset: number;
  readonly length: number;
}

/**
 * Tells of corruption and answers the error of the request that found it. In an image that may be written it is fatal: the
 * image is marked as corrupt, and every request fails from now on.
 */
export function corruption(image: Qcow2Image, message: string, access?: Access): IoError {
  const error = new IoError(errno.EIO, { syscall: 'qcow2' });
  const { writable: fatal, nodeName } = image.node;
  const marked = (image.incompatible & INCOMPAT_CORRUPT) !== 0n;
  if (image.corruptionReported && (!fatal || marked)) return error;
  image.corruptionReported = true;
  const text = fatal
    ? `qcow2: Marking image as corrupt: ${message}; further corruption events will be suppressed`
    : `qcow2: Image is corrupt: ${message}; further non-fatal corruption events will be suppressed`;
  image.log.error(text, { bare: true });
  image.events.emit('BLOCK_IMAGE_CORRUPTED', {
    device: '',
    'node-name': nodeName,
    msg: message,
    ...(access === undefined ? {} : { offset: access.offset, size: access.length }),
    fatal,
  });
  if (fatal) {
    image.unusable = true;
    void markCorrupt(image);
  }
  return error;
}

/** Throws when corruption was found before. */
export function checkUsable(image: Qcow2Image): void {
  if (image.unusable) throw new IoError(errno.ENOMEDIUM, { syscall: 'qcow2' });
}

async function markCorrupt(image: Qcow2Image): Promise<void> {
  image.incompatible |= INCOMPAT_CORRUPT;
  if (image.geometry.version < 3) return;
  try {
    await writeFeatures(image);
  } catch (error) {
    image.log.error(`Could not mark the image as corrupt: ${String(error)}`);
  }
}

/** Writes the header with its feature bits, or, where it has become too long, only the bits. Throws IoError. */
export async function writeFeatures(image: Qcow2Image): Promise<void> {
  try {
    await rewriteHeader(image);
    await image.file.flush();
  } catch (error) {
    if (!(error instanceof IoError) || error.errno !== errno.ENOSPC) throw error;
    await writeIncompatible(image);
  }
}

/** Writes the incompatible feature bits to the header. */
export async function writeIncompatible(image: Qcow2Image): Promise<void> {
  const buffer = image.allocate(8);
  buffer.view.setBigUint64(0, image.incompatible);
  await image.file.write(AT_INCOMPATIBLE, 8, buffer, 0);
  await image.file.flush();
}
