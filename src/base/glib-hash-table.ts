// The order in which GLib walks a hash table of strings. Replies and error texts of the reference show it (which of two
// unexpected members is named, how qom-list sorts), so it is computed here from the published algorithm: g_str_hash, a prime
// modulus, quadratic probing, tombstones.

const UNUSED = 0;
const TOMBSTONE = 1;
const FIRST_REAL_HASH = 2;
const MIN_SHIFT = 3;
/** Largest prime below 2^shift, by shift; a message has no more members than the last is for. */
const PRIME_BELOW = [
  1, 2, 3, 7, 13, 31, 61, 127, 251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071,
  262139, 524287, 1048573, 2097143,
];

/** A set of strings that iterates as a GHashTable with the same history of insertions and removals does. */
export class GlibStringSet {
  #shift = MIN_SHIFT;
  #hashes = new Uint32Array(1 << MIN_SHIFT);
  #keys: (string | undefined)[] = new Array<string | undefined>(1 << MIN_SHIFT);
  #used = 0;
  #occupied = 0;

  constructor(keys: Iterable<string> = []) {
    for (const key of keys) this.add(key);
  }

  get size(): number {
    return this.#used;
  }

  add(key: string): void {
    const hash = hashOf(key);
    const at = this.#slotOf(key, hash);
    const before = this.#hashes[at];
    if (before === hash && this.#keys[at] === key) return;
    this.#hashes[at] = hash;
    this.#keys[at] = key;
    this.#used++;
    if (before === UNUSED) {
      this.#occupied++;
      this.#resizeIfDue();
    }
  }

  /** Removes a key. The table shrinks when it should, except after a removal in the middle of a walk (`walking`). */
  delete(key: string, { walking = false }: { readonly walking?: boolean } = {}): boolean {
    const hash = hashOf(key);
    const at = this.#slotOf(key, hash);
    if (this.#keys[at] !== key) return false;
    this.#hashes[at] = TOMBSTONE;
    this.#keys[at] = undefined;
    this.#used--;
    if (!walking) this.#resizeIfDue();
    return true;
  }

  *[Symbol.iterator](): IterableIterator<string> {
    for (const key of this.#keys) if (key !== undefined) yield key;
  }

  /** Where `key` is, or where it would go. */
  #slotOf(key: string, hash: number): number {
    const mask = this.#hashes.length - 1;
    let at = this.#firstSlot(hash);
    let firstTombstone = -1;
    for (let step = 1; this.#hashes[at] !== UNUSED; step++) {
      if (this.#hashes[at] === hash && this.#keys[at] === key) return at;
      if (this.#hashes[at] === TOMBSTONE && firstTombstone < 0) firstTombstone = at;
      at = (at + step) & mask;
    }
    return firstTombstone < 0 ? at : firstTombstone;
  }

  #resizeIfDue(): void {
    const size = this.#hashes.length;
    const tooLarge = size > this.#used * 4 && size > 1 << MIN_SHIFT;
    const tooFull = size <= this.#occupied + Math.floor(this.#occupied / 16);
    if (!tooLarge && !tooFull) return;
    this.#shift = Math.max(MIN_SHIFT, 32 - Math.clz32(Math.floor(this.#used * 1.333)));
    this.#rehash(1 << this.#shift);
    this.#occupied = this.#used;
  }

  /** Moves every key to its place in the table's new size, in place: one that is in the way moves on at once. */
  #rehash(newSize: number): void {
    const oldSize = this.#hashes.length;
    const hashes = new Uint32Array(Math.max(oldSize, newSize));
    const keys = new Array<string | undefined>(hashes.length);
    const settled = new Uint8Array(hashes.length);
    hashes.set(this.#hashes);
    for (const [at, key] of this.#keys.entries()) keys[at] = key;
    for (let from = 0; from < oldSize; from++) {
      if (settled[from] === 1) continue;
      let key = keys[from];
      let hash = hashes[from] ?? UNUSED;
      hashes[from] = UNUSED;
      keys[from] = undefined;
      while (key !== undefined) {
        let at = this.#firstSlot(hash);
        for (let step = 1; settled[at] === 1; step++) at = (at + step) & (newSize - 1);
        settled[at] = 1;
        const evicted: [string | undefined, number] = [keys[at], hashes[at] ?? UNUSED];
        keys[at] = key;
        hashes[at] = hash;
        [key, hash] = evicted;
      }
    }
    this.#hashes = hashes.slice(0, newSize);
    this.#keys = keys.slice(0, newSize);
  }

  #firstSlot(hash: number): number {
    return (Math.imul(hash, 11) >>> 0) % (PRIME_BELOW[this.#shift] ?? 1);
  }
}

/** g_str_hash over the bytes, which C reads as signed characters; U+0000 is C0 80 in them. */
function hashOf(key: string): number {
  let hash = 5381;
  const add = (byte: number) => {
    hash = (Math.imul(hash, 33) + ((byte << 24) >> 24)) >>> 0;
  };
  for (const byte of Buffer.from(key)) {
    if (byte === 0) add(0xc0);
    add(byte === 0 ? 0x80 : byte);
  }
  return hash < FIRST_REAL_HASH ? FIRST_REAL_HASH : hash;
}
