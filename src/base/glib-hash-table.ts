// The order in which GLib walks a hash table of strings. Replies and error texts of the reference show it (which of two
// unexpected members is named, how qom-list sorts), so it is computed here from the published algorithm: g_str_hash, a prime
// modulus, quadratic probing, tombstones.

const UNUSED = 0;
const TOMBSTONE = 1;
const FIRST_REAL_HASH = 2;
const MIN_SHIFT = 3;
/** Largest prime below 2^shift, by shift. */
const PRIME_BELOW = [1, 2, 3, 7, 13, 31, 61, 127, 251, 509, 1021, 2039, 4093, 8191, 16381, 32749];

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

  delete(key: string): boolean {
    const hash = hashOf(key);
    const at = this.#slotOf(key, hash);
    if (this.#keys[at] !== key) return false;
    this.#hashes[at] = TOMBSTONE;
    this.#keys[at] = undefined;
    this.#used--;
    this.#resizeIfDue();
    return true;
  }

  *[Symbol.iterator](): IterableIterator<string> {
    for (const key of this.#keys) if (key !== undefined) yield key;
  }

  /** Where `key` is, or where it would go. */
  #slotOf(key: string, hash: number): number {
    const mask = this.#hashes.length - 1;
    let at = (Math.imul(hash, 11) >>> 0) % (PRIME_BELOW[this.#shift] ?? 1);
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
    const kept = [...this];
    this.#shift = Math.max(MIN_SHIFT, 32 - Math.clz32(Math.floor(this.#used * 1.333)));
    this.#hashes = new Uint32Array(1 << this.#shift);
    this.#keys = new Array<string | undefined>(1 << this.#shift);
    for (const key of kept) {
      const hash = hashOf(key);
      const at = this.#slotOf(key, hash);
      this.#hashes[at] = hash;
      this.#keys[at] = key;
    }
    this.#occupied = this.#used;
  }
}

/** g_str_hash over the UTF-8 bytes, which C reads as signed characters. */
function hashOf(key: string): number {
  let hash = 5381;
  for (const byte of Buffer.from(key)) {
    hash = (Math.imul(hash, 33) + ((byte << 24) >> 24)) >>> 0;
  }
  return hash < FIRST_REAL_HASH ? FIRST_REAL_HASH : hash;
}
