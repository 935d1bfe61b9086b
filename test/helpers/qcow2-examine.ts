// A second opinion about qcow2 images in memory: what `qemu-img check` would call corrupt, and the disk in them. Written from the
// format's document alone, for tests that look at thousands of images.

import { inflateRawSync } from 'node:zlib';
import { loadZstdFrame } from './zstd.ts';

const DIRTY = 1n;
const DATA_FILE = 4n;
const COMPRESSION_TYPE = 8n;
const ZSTD = 1;
const EXTENDED_L2 = 16n;
const BITMAPS = 1n;
const BITMAPS_EXTENSION = 0x23852875;
const OFFSET = 0x00fffffffffffe00n;
const COPIED = 1n << 63n;
const COMPRESSED = 1n << 62n;
const zstdFrame = loadZstdFrame();

export interface Examined {
  /** In plain words; leaks are none. */
  readonly faults: readonly string[];
  readonly disk: Buffer;
  /** Disks of internal snapshots, by their names. */
  readonly snapshots: ReadonlyMap<string, Buffer>;
  /** Persistent bitmaps: whether they are in use. */
  readonly bitmaps: ReadonlyMap<string, boolean>;
}

/** Where the rest of a disk is. */
export interface Besides {
  readonly backing?: Buffer | undefined;
  /** The external data file. */
  readonly data?: Buffer | undefined;
}

export function examine(image: Buffer, { backing, data }: Besides = {}): Examined {
  return new Examination(image, backing ?? Buffer.alloc(0), data ?? image).result();
}

/** Tables are gone through for a disk. */
interface Target {
  readonly disk: Buffer;
  readonly isActive: boolean;
}

class Examination {
  readonly #image: Buffer;
  readonly #backing: Buffer;
  readonly #data: Buffer;
  readonly #faults: string[] = [];
  readonly #uses: Uint32Array;
  readonly #clusterBits: number;
  readonly #clusterSize: number;
  readonly #isExtended: boolean;
  readonly #isDirty: boolean;
  readonly #hasDataFile: boolean;
  readonly #isZstd: boolean;
  readonly #snapshots = new Map<string, Buffer>();
  readonly #bitmaps = new Map<string, boolean>();

  constructor(image: Buffer, backing: Buffer, data: Buffer) {
    this.#image = image;
    this.#backing = backing;
    this.#data = data;
    this.#clusterBits = image.readUInt32BE(20);
    this.#clusterSize = 2 ** this.#clusterBits;
    const features = image.readUInt32BE(4) < 3 ? 0n : image.readBigUInt64BE(72);
    this.#isExtended = (features & EXTENDED_L2) !== 0n;
    this.#isDirty = (features & DIRTY) !== 0n;
    this.#hasDataFile = (features & DATA_FILE) !== 0n;
    this.#isZstd = (features & COMPRESSION_TYPE) !== 0n && image.readUInt8(104) === ZSTD;
    this.#uses = new Uint32Array(Math.ceil(image.length / this.#clusterSize) + 1);
  }

  result(): Examined {
    const image = this.#image;
    const tableOffset = this.#u64(48);
    const tableLength = image.readUInt32BE(56) * this.#clusterSize;
    this.#use(0, 1, 'header');
    this.#use(tableOffset, tableLength, 'refcount table');
    for (let at = tableOffset; at < tableOffset + tableLength; at += 8) {
      const block = this.#u64(at);
      if (block !== 0) this.#use(block, this.#clusterSize, 'refcount block');
    }
    const disk = Buffer.alloc(this.#u64(24));
    this.#walk(this.#u64(40), image.readUInt32BE(36), { disk, isActive: true });
    this.#walkSnapshots();
    this.#walkBitmaps();
    if (!this.#isDirty) this.#compareRefcounts();
    const { snapshots, bitmaps } = { snapshots: this.#snapshots, bitmaps: this.#bitmaps };
    return { faults: this.#faults, disk, snapshots, bitmaps };
  }

  #walkSnapshots(): void {
    const start = this.#u64(64);
    let at = start;
    for (let count = this.#image.readUInt32BE(60); count > 0; count--) {
      const extra = this.#image.readUInt32BE(at + 36);
      const idLength = this.#image.readUInt16BE(at + 12);
      const nameLength = this.#image.readUInt16BE(at + 14);
      const nameAt = at + 40 + extra + idLength;
      const disk = Buffer.alloc(this.#u64(extra >= 16 ? at + 48 : 24));
      this.#walk(this.#u64(at), this.#image.readUInt32BE(at + 8), { disk, isActive: false });
      this.#snapshots.set(this.#image.toString('utf8', nameAt, nameAt + nameLength), disk);
      at = start + Math.ceil((nameAt + nameLength - start) / 8) * 8;
    }
    if (at > start) this.#use(start, at - start, 'snapshot table');
  }

  #walkBitmaps(): void {
    const image = this.#image;
    if (image.readUInt32BE(4) < 3 || (image.readBigUInt64BE(88) & BITMAPS) === 0n) return;
    let at = image.readUInt32BE(100);
    for (;;) {
      const type = image.readUInt32BE(at);
      if (type === 0) return;
      if (type === BITMAPS_EXTENSION) break;
      at += 8 + Math.ceil(image.readUInt32BE(at + 4) / 8) * 8;
    }
    const start = this.#u64(at + 24);
    const length = this.#u64(at + 16);
    this.#use(start, length, 'bitmap directory');
    for (let entry = start; entry < start + length; ) {
      const table = this.#u64(entry);
      const tableLength = image.readUInt32BE(entry + 8) * 8;
      const extra = image.readUInt32BE(entry + 20);
      const nameAt = entry + 24 + extra;
      const nameEnd = nameAt + image.readUInt16BE(entry + 18);
      if (tableLength > 0) this.#use(table, tableLength, 'bitmap table');
      for (let each = table; each < table + tableLength; each += 8) {
        const bits = Number(this.#entry(each) & OFFSET);
        if (bits !== 0) this.#use(bits, this.#clusterSize, 'bitmap');
      }
      const inUse = (image.readUInt32BE(entry + 12) & 1) !== 0;
      this.#bitmaps.set(image.toString('utf8', nameAt, nameEnd), inUse);
      entry = start + Math.ceil((nameEnd - start) / 8) * 8;
    }
  }

  #walk(l1: number, entries: number, target: Target): void {
    if (entries > 0) this.#use(l1, entries * 8, 'L1 table');
    const entrySize = this.#isExtended ? 16 : 8;
    const coverage = (this.#clusterSize / entrySize) * this.#clusterSize;
    for (let index = 0; index < entries; index++) {
      const entry = this.#entry(l1 + index * 8);
      const l2 = Number(entry & OFFSET);
      if (l2 === 0) {
        this.#absent(target, index * coverage, coverage);
        continue;
      }
      this.#use(l2, this.#clusterSize, 'L2 table');
      if (target.isActive) this.#checkCopied(entry, l2, `table ${index}`);
      for (let at = 0; at < this.#clusterSize; at += entrySize) {
        const guest = index * coverage + (at / entrySize) * this.#clusterSize;
        this.#cluster(l2 + at, guest, target);
      }
    }
  }

  #cluster(at: number, guest: number, target: Target): void {
    const entry = this.#entry(at);
    if ((entry & COMPRESSED) !== 0n) {
      if ((entry & COPIED) !== 0n) this.#faults.push(`compressed cluster ${guest} is copied`);
      const bits = BigInt(62 - (this.#clusterBits - 8));
      const offset = Number(entry & ((1n << bits) - 1n));
      const sectors = Number((entry & (COMPRESSED - 1n)) >> bits);
      const end = (Math.floor(offset / 512) + sectors + 1) * 512;
      const first = offset - (offset % this.#clusterSize);
      this.#use(first, end - first, 'compressed cluster');
      show(target, guest, this.#inflated(offset, end));
      return;
    }
    const host = Number(entry & OFFSET);
    const isThere = host !== 0 || (this.#hasDataFile && (entry & COPIED) !== 0n);
    if (isThere && this.#hasDataFile) {
      if (host !== guest) this.#faults.push(`cluster of ${guest} is at ${host} of the data file`);
    } else if (isThere) {
      this.#use(host, this.#clusterSize, 'data cluster');
      if (target.isActive) this.#checkCopied(entry, host, `cluster of ${guest}`);
    }
    // It would come to light in a longer disk.
    if (isThere && guest >= target.disk.length)
      this.#faults.push(`cluster of ${guest} is nobody's`);
    if (!this.#isExtended) {
      if ((entry & 1n) !== 0n) return;
      if (isThere) show(target, guest, this.#data.subarray(host, host + this.#clusterSize));
      else this.#absent(target, guest, this.#clusterSize);
      return;
    }
    const zero = this.#image.readUInt32BE(at + 8);
    const data = this.#image.readUInt32BE(at + 12);
    if ((zero & data) !== 0) this.#faults.push(`subclusters of ${guest} are both`);
    if (!isThere && data !== 0) this.#faults.push(`subclusters of ${guest} are nowhere`);
    const length = this.#clusterSize / 32;
    for (let bit = 0; bit < 32; bit++) {
      const from = guest + bit * length;
      const place = host + bit * length;
      if (((data >>> bit) & 1) === 1) {
        show(target, from, this.#data.subarray(place, place + length));
      } else if (((zero >>> bit) & 1) === 0) {
        this.#absent(target, from, length);
      }
    }
  }

  #inflated(offset: number, end: number): Buffer {
    const content = decompressed(this.#image.subarray(offset, end), {
      length: this.#clusterSize,
      isZstd: this.#isZstd,
    });
    if (content === undefined) this.#faults.push(`no compressed data at ${offset}`);
    return content ?? Buffer.alloc(0);
  }

  #absent({ disk }: Target, guest: number, length: number): void {
    const end = Math.min(guest + length, this.#backing.length);
    if (guest < end && guest < disk.length) this.#backing.copy(disk, guest, guest, end);
  }

  #use(offset: number, length: number, what: string): void {
    if (offset % this.#clusterSize !== 0) this.#faults.push(`${what} at ${offset} is unaligned`);
    if (offset + length - this.#image.length >= this.#clusterSize) {
      this.#faults.push(`${what} at ${offset} is outside the file`);
      return;
    }
    const first = Math.floor(offset / this.#clusterSize);
    for (let cluster = first; cluster * this.#clusterSize < offset + length; cluster++) {
      this.#uses[cluster] = (this.#uses[cluster] ?? 0) + 1;
    }
  }

  #checkCopied(entry: bigint, offset: number, what: string): void {
    if (this.#isDirty) return;
    const alone = this.#refcount(Math.floor(offset / this.#clusterSize)) === 1;
    if (alone !== ((entry & COPIED) !== 0n)) this.#faults.push(`${what}: wrong copied flag`);
  }

  #compareRefcounts(): void {
    for (const [cluster, uses] of this.#uses.entries()) {
      const refcount = this.#refcount(cluster);
      if (refcount < uses) this.#faults.push(`cluster ${cluster}: ${uses} uses, not ${refcount}`);
    }
  }

  #refcount(cluster: number): number {
    const bits = 2 ** (this.#image.readUInt32BE(4) < 3 ? 4 : this.#image.readUInt32BE(96));
    const perBlock = (this.#clusterSize * 8) / bits;
    const index = Math.floor(cluster / perBlock);
    if (index * 8 >= this.#image.readUInt32BE(56) * this.#clusterSize) return 0;
    const block = this.#u64(this.#u64(48) + index * 8);
    if (block === 0) return 0;
    const bit = (cluster % perBlock) * bits;
    const at = block + Math.floor(bit / 8);
    if (at + bits / 8 > this.#image.length) return 0;
    if (bits < 8) return (this.#image.readUInt8(at) >> (bit % 8)) & (2 ** bits - 1);
    return bits === 64 ? this.#u64(at) : this.#image.readUIntBE(at, bits / 8);
  }

  #u64(at: number): number {
    return Number(this.#entry(at));
  }

  /** Behind the end of the file there are zeroes. */
  #entry(at: number): bigint {
    return at + 8 > this.#image.length ? 0n : this.#image.readBigUInt64BE(at);
  }
}

function show({ disk }: Target, guest: number, bytes: Buffer): void {
  if (guest < disk.length) bytes.copy(disk, guest);
}

function decompressed(
  source: Buffer,
  { length, isZstd }: { readonly length: number; readonly isZstd: boolean },
): Buffer | undefined {
  if (isZstd) return zstdFrame?.(source, length);
  try {
    return inflateRawSync(source, { finishFlush: 2 });
  } catch {
    return undefined;
  }
}
