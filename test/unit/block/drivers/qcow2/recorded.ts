// A small image that qemu-img and qemu-io 7.2.22 made, to be opened where there is no qemu-img: 16 KiB, clusters of 512 bytes,
// refcounts of 8 bits. 0x07 from 1024 for 1000 bytes, written zeroes from 4096 for 2048, 0x09 from 8192 for 512, compressed.

import { gunzipSync } from 'node:zlib';

const packed =
  'H4sICOgPAWsCA2YucQALdPP8zcDAwMyACjghlAOMzwih2KBcJiQxggBkdgHDKBjEgGU0CEYoYISC0ZAYmaABTHKMBsQoQEoPXFCah+hihACNE0BaGHyjAT9AgH0UjIJRMOwBrvz/+IkMq7IkAwMAWNK95ggOAAA=';

export function recordedImage(): Buffer {
  return gunzipSync(Buffer.from(packed, 'base64'));
}

/** The disk in it. */
export function recordedDisk(): Buffer {
  const disk = Buffer.alloc(16384);
  disk.fill(7, 1024, 2024);
  disk.fill(9, 8192, 8704);
  return disk;
}
