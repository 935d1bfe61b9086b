// Contents that tell who wrote them: every word holds the number of a request, plain or behind noise. How much noise there is
// depends on the number, so that some contents compress well, some hardly and some not at all.

export const SECTOR = 512;

const NOISY = 0x80000000;
/** Of eight words so many are noisy, by the two lowest bits of the number. */
const NOISE = [0, 4, 7, 8] as const;

/** Words with that number, and no noise. 0 stands for zeroes. */
export function plainWords(length: number, mark: number): Buffer {
  const bytes = Buffer.alloc(length);
  new Uint32Array(bytes.buffer, bytes.byteOffset, length / 4).fill(mark);
  return bytes;
}

/** Words for the disk offset `offset`, bytes; `mark` is below 2^31. */
export function noisyWords(offset: number, length: number, mark: number): Buffer {
  const bytes = Buffer.alloc(length);
  const noisy = NOISE[mark & 3] ?? 0;
  for (let at = 0; at < length; at += 4) {
    const index = (offset + at) / 4;
    bytes.writeUInt32LE(index % 8 < noisy ? hidden(mark, index) : mark, at);
  }
  return bytes;
}

/** The number in the word with that index on the disk. */
export function markOf(word: number, index: number): number {
  return word < NOISY ? word : (word ^ noise(index)) & ~NOISY;
}

/** The numbers in all words of a disk. */
export function marksOf(disk: Buffer): Uint32Array {
  const words = new Uint32Array(disk.buffer, disk.byteOffset, disk.length / 4);
  const marks = new Uint32Array(words.length);
  for (let index = 0; index < words.length; index++)
    marks[index] = markOf(words[index] ?? 0, index);
  return marks;
}

function hidden(mark: number, index: number): number {
  return ((mark ^ noise(index)) | NOISY) >>> 0;
}

function noise(index: number): number {
  let mixed = Math.imul(index ^ (index >>> 16), 0x45d9f3b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0x2c1b3c6d);
  return mixed ^ (mixed >>> 16);
}
