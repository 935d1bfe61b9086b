// A set of bits, of any length up to 2^53: a tree in which a part whose bits are all equal takes no memory, however long it is.
// Ranges are set and cleared, and the next bit of a kind is found, without looking at such parts bit by bit.

/** Bits of a leaf: 1 KiB of words. */
const LEAF_BITS = 8192;
const WORD_BITS = 32;
/** Children of a branch. */
const FAN_OUT = 256;

/** Bits of a tree by its height; height 0 is a leaf. */
const capacities: readonly number[] = Array.from(
  { length: 6 },
  (_, height) => LEAF_BITS * FAN_OUT ** height,
);

/** Bytes of the longest piece that bytes() yields. */
const PIECE = 64 * 1024;

interface Leaf {
  readonly words: Uint32Array;
  count: number;
}

interface Branch {
  readonly children: Tree[];
  count: number;
}

type Uniform = 'clear' | 'set';
type Tree = Uniform | Leaf | Branch;

export class Bitmap {
  #length: number;
  #height: number;
  #root: Tree = 'clear';

  /** All clear. */
  constructor(length: number) {
    this.#length = length;
    this.#height = heightFor(length);
  }

  /** Bits. */
  get length(): number {
    return this.#length;
  }

  /** Bits that are set. */
  get count(): number {
    return countOf(this.#root, this.#height);
  }

  /** Sets bits `first` to `last`, both inclusive and within the length. */
  set(first: number, last: number): void {
    this.#root = changed(this.#root, this.#height, first, last, 'set');
  }

  clear(first: number, last: number): void {
    this.#root = changed(this.#root, this.#height, first, last, 'clear');
  }

  clearAll(): void {
    this.#root = 'clear';
  }

  has(bit: number): boolean {
    return this.nextSet(bit, bit + 1) === bit;
  }

  /** The first bit of [from, end) that is set; -1 when there is none. */
  nextSet(from: number, end: number): number {
    return this.#next(from, Math.min(end, this.#length), 'set');
  }

  /** The first bit of [from, end) that is clear; -1 when there is none. */
  nextClear(from: number, end: number): number {
    return this.#next(from, Math.min(end, this.#length), 'clear');
  }

  /** Sets what is set in `other`, which has the same length. */
  union(other: Bitmap): void {
    if (other.#length !== this.#length) throw new RangeError('bitmaps of different lengths');
    this.#root = united(this.#root, other.#root, this.#height);
  }

  /** New bits are clear. */
  resize(length: number): void {
    if (length < this.#length) this.clear(length, this.#length - 1);
    const height = heightFor(length);
    for (; this.#height < height; this.#height++) this.#root = raised(this.#root, this.#height);
    for (; this.#height > height; this.#height--) this.#root = lowered(this.#root);
    this.#length = length;
  }

  /** The bits in words of 64, low bits and low bytes first, at least one word. Pieces are valid until the next is asked for. */
  *bytes(): Generator<Uint8Array> {
    let left = Math.max(1, Math.ceil(this.#length / 64)) * 8;
    for (const piece of piecesOf(this.#root, this.#height)) {
      yield piece.subarray(0, Math.min(piece.length, left));
      left -= piece.length;
      if (left <= 0) return;
    }
  }

  /** Puts the bits from `first` on into `into`, as bytes() has them. `first` and the bits of `into`: multiples of 32. */
  copyTo(first: number, into: Uint8Array): void {
    copyOut(this.#root, this.#height, first, into);
  }

  /** Takes the bits from `first` on from `bytes`, as far as it is long. `first` and the bits of `bytes`: multiples of 32. */
  copyFrom(first: number, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const start = first + at * 8;
      if (start >= this.#length) break;
      const room = LEAF_BITS - (start % LEAF_BITS);
      const piece = bytes.subarray(at, at + room / 8);
      this.#root = withBits(this.#root, this.#height, start, piece);
      at += piece.length;
    }
    const end = Math.min(first + bytes.length * 8, capacityOf(this.#height));
    if (end > this.#length) this.clear(this.#length, end - 1);
  }

  #next(from: number, end: number, kind: Uniform): number {
    return from < end ? next(this.#root, this.#height, { from, last: end - 1, kind }) : -1;
  }
}

function heightFor(length: number): number {
  const height = capacities.findIndex((capacity) => length <= capacity);
  if (height < 0) throw new RangeError(`a bitmap of ${length} bits`);
  return height;
}

function capacityOf(height: number): number {
  return capacities[height] as number;
}

function isLeaf(tree: Leaf | Branch): tree is Leaf {
  return 'words' in tree;
}

function countOf(tree: Tree, height: number): number {
  if (tree === 'clear') return 0;
  return tree === 'set' ? capacityOf(height) : tree.count;
}

/** The tree after a change; the one given is used up. This happens in every write, so it makes no objects that it can avoid. */
function changed(tree: Tree, height: number, first: number, last: number, to: Uniform): Tree {
  const capacity = capacityOf(height);
  if (tree === to || (first === 0 && last === capacity - 1)) return to;
  const inner = typeof tree === 'object' ? tree : spread(tree, height);
  if (isLeaf(inner)) changeLeaf(inner, first, last, to);
  else changeBranch(inner, height, first, last, to);
  if (inner.count === 0) return 'clear';
  return inner.count === capacity ? 'set' : inner;
}

/** A uniform tree as one whose parts can differ. */
function spread(tree: Uniform, height: number): Leaf | Branch {
  const count = countOf(tree, height);
  if (height > 0) return { children: new Array<Tree>(FAN_OUT).fill(tree), count };
  const words = new Uint32Array(LEAF_BITS / WORD_BITS);
  if (tree === 'set') words.fill(0xffff_ffff);
  return { words, count };
}

function changeLeaf(leaf: Leaf, first: number, last: number, to: Uniform): void {
  const { words } = leaf;
  const lastWord = last >>> 5;
  for (let word = first >>> 5; word <= lastWord; word++) {
    const low = word === first >>> 5 ? -1 << (first & 31) : -1;
    const high = word === lastWord ? -1 >>> (31 - (last & 31)) : -1;
    const mask = low & high;
    const before = words[word] as number;
    const after = (to === 'set' ? before | mask : before & ~mask) >>> 0;
    if (after === before) continue;
    words[word] = after;
    leaf.count += onesIn(after) - onesIn(before);
  }
}

function changeBranch(
  branch: Branch,
  height: number,
  first: number,
  last: number,
  to: Uniform,
): void {
  const { children } = branch;
  const span = capacityOf(height - 1);
  const lastChild = Math.floor(last / span);
  for (let index = Math.floor(first / span); index <= lastChild; index++) {
    const start = index * span;
    const before = children[index] as Tree;
    const countBefore = countOf(before, height - 1);
    const from = Math.max(first - start, 0);
    const after = changed(before, height - 1, from, Math.min(last - start, span - 1), to);
    children[index] = after;
    branch.count += countOf(after, height - 1) - countBefore;
  }
}

interface Search {
  readonly from: number;
  readonly last: number;
  readonly kind: Uniform;
}

function next(tree: Tree, height: number, search: Search): number {
  if (typeof tree !== 'object') return tree === search.kind ? search.from : -1;
  return isLeaf(tree) ? nextInLeaf(tree, search) : nextInBranch(tree, height, search);
}

function nextInLeaf({ words }: Leaf, { from, last, kind }: Search): number {
  const flip = kind === 'set' ? 0 : -1;
  const lastWord = last >>> 5;
  let mask = -1 << (from & 31);
  for (let word = from >>> 5; word <= lastWord; word++) {
    const found = ((words[word] as number) ^ flip) & mask;
    mask = -1;
    if (found === 0) continue;
    const bit = word * WORD_BITS + 31 - Math.clz32(found & -found);
    return bit <= last ? bit : -1;
  }
  return -1;
}

function nextInBranch({ children }: Branch, height: number, search: Search): number {
  const { from, last, kind } = search;
  const span = capacityOf(height - 1);
  const lastChild = Math.floor(last / span);
  for (let index = Math.floor(from / span); index <= lastChild; index++) {
    const start = index * span;
    const found = next(children[index] as Tree, height - 1, {
      from: Math.max(from - start, 0),
      last: Math.min(last - start, span - 1),
      kind,
    });
    if (found >= 0) return start + found;
  }
  return -1;
}

/** `into` with what is set in `other`, which is left as it is. */
function united(into: Tree, other: Tree, height: number): Tree {
  if (into === 'set' || other === 'clear' || into === other) return into;
  if (other === 'set') return 'set';
  if (into === 'clear') return copyOf(other);
  if (isLeaf(into) && isLeaf(other)) {
    uniteLeaves(into, other);
  } else if (!isLeaf(into) && !isLeaf(other)) {
    into.count = 0;
    for (const [index, child] of other.children.entries()) {
      const joined = united(into.children[index] as Tree, child, height - 1);
      into.children[index] = joined;
      into.count += countOf(joined, height - 1);
    }
  }
  return into.count === capacityOf(height) ? 'set' : into;
}

function uniteLeaves(into: Leaf, other: Leaf): void {
  into.count = 0;
  for (const [index, word] of other.words.entries()) {
    const both = (into.words[index] as number) | word;
    into.words[index] = both;
    into.count += onesIn(both);
  }
}

function copyOf(tree: Leaf | Branch): Leaf | Branch {
  const { count } = tree;
  if (isLeaf(tree)) return { words: tree.words.slice(), count };
  const children = tree.children.map((child) =>
    typeof child === 'object' ? copyOf(child) : child,
  );
  return { children, count };
}

/** The tree as the first child of one that is higher by 1. */
function raised(tree: Tree, height: number): Tree {
  if (tree === 'clear') return tree;
  const branch: Branch = { children: new Array<Tree>(FAN_OUT).fill('clear'), count: 0 };
  branch.children[0] = tree;
  branch.count = countOf(tree, height);
  return branch;
}

/** Its first child; the others are clear. */
function lowered(tree: Tree): Tree {
  return typeof tree === 'object' && !isLeaf(tree) ? (tree.children[0] as Tree) : tree;
}

function* piecesOf(tree: Tree, height: number): Generator<Uint8Array> {
  if (typeof tree !== 'object') {
    const total = capacityOf(height) / 8;
    const piece = new Uint8Array(Math.min(PIECE, total)).fill(tree === 'set' ? 0xff : 0);
    for (let done = 0; done < total; done += piece.length) yield piece;
  } else if (isLeaf(tree)) {
    yield new Uint8Array(tree.words.buffer);
  } else {
    for (const child of tree.children) yield* piecesOf(child, height - 1);
  }
}

function copyOut(tree: Tree, height: number, first: number, into: Uint8Array): void {
  if (typeof tree !== 'object') {
    into.fill(tree === 'set' ? 0xff : 0);
  } else if (isLeaf(tree)) {
    const bits = new Uint8Array(tree.words.buffer, first / 8);
    into.set(bits.subarray(0, into.length));
    into.fill(0, bits.length);
  } else {
    const span = capacityOf(height - 1);
    for (let done = 0; done < into.length; ) {
      const at = first + done * 8;
      const index = Math.floor(at / span);
      const inner = at - index * span;
      const piece = into.subarray(done, done + (span - inner) / 8);
      const child = tree.children[index];
      // Behind the last bit of the set there is nothing.
      if (child === undefined) {
        piece.fill(0);
        return;
      }
      copyOut(child, height - 1, inner, piece);
      done += piece.length;
    }
  }
}

/** The tree with the bits of `bytes` from `first` on, all of them in one leaf; the tree given is used up. */
function withBits(tree: Tree, height: number, first: number, bytes: Uint8Array): Tree {
  const same = uniformOf(bytes);
  if (same !== undefined) return changed(tree, height, first, first + bytes.length * 8 - 1, same);
  const inner = typeof tree === 'object' ? tree : spread(tree, height);
  if (isLeaf(inner)) {
    new Uint8Array(inner.words.buffer).set(bytes, first / 8);
    inner.count = 0;
    for (const word of inner.words) inner.count += onesIn(word);
    return inner;
  }
  const span = capacityOf(height - 1);
  const index = Math.floor(first / span);
  const before = inner.children[index] as Tree;
  const countBefore = countOf(before, height - 1);
  const after = withBits(before, height - 1, first - index * span, bytes);
  inner.children[index] = after;
  inner.count += countOf(after, height - 1) - countBefore;
  return inner;
}

function uniformOf(bytes: Uint8Array): Uniform | undefined {
  const first = bytes[0];
  if (first !== 0 && first !== 0xff) return undefined;
  for (const byte of bytes) {
    if (byte !== first) return undefined;
  }
  return first === 0 ? 'clear' : 'set';
}

function onesIn(word: number): number {
  let ones = word - ((word >>> 1) & 0x5555_5555);
  ones = (ones & 0x3333_3333) + ((ones >>> 2) & 0x3333_3333);
  return Math.imul((ones + (ones >>> 4)) & 0x0f0f_0f0f, 0x0101_0101) >>> 24;
}
