// Single fields of the header, written to the image and flushed. The image's lock is held.

import { AT_AUTOCLEAR, AT_L1_SIZE, AT_SIZE } from './header.ts';
import type { Qcow2Image } from './image.ts';
import { putU64 } from './l1-l2.ts';

export async function writeAutoclear(image: Qcow2Image, autoclear: bigint): Promise<void> {
  const field = image.allocate(8);
  field.view.setBigUint64(0, autoclear);
  await image.file.write(AT_AUTOCLEAR, 8, field, 0);
  await image.file.flush();
  image.autoclear = autoclear;
}

export async function writeSize(image: Qcow2Image, size: number): Promise<void> {
  const field = image.allocate(8);
  putU64(field.view, 0, size);
  await image.file.write(AT_SIZE, 8, field, 0);
  await image.file.flush();
  image.size = size;
}

/** Where the L1 table is, and how many entries it has. */
export async function writeL1Place(
  image: Qcow2Image,
  { offset, entries }: { offset: number; entries: number },
): Promise<void> {
  const fields = image.allocate(12);
  fields.view.setUint32(0, entries);
  putU64(fields.view, 4, offset);
  await image.file.write(AT_L1_SIZE, 12, fields, 0);
  await image.file.flush();
}
