// What the disk of an image that is handed to and fro should hold, whoever changes it.

/** How an image is made, and what it cannot have. */
export interface Layout {
  /** `-o`, as qemu-img takes them; DIR is a directory of its own. */
  readonly options: string;
  /** Bytes. */
  readonly clusterSize: number;
  readonly hasBacking?: boolean;
  /** An external data file `data`, all of whose bytes are the disk's where it is raw. */
  readonly dataFile?: 'raw' | 'qcow2';
  /** Its refcounts cannot count so many users. */
  readonly without?: 'snapshots' | 'compression';
  /** What `qemu-img amend -o` changes it to, one after the other. */
  readonly amendments?: readonly string[];
}

export class ExchangeModel {
  /** What the disk should hold. */
  disk: Buffer;
  readonly #kept = new Map<string, Buffer>();
  #last = 0;

  constructor(disk: Buffer) {
    this.disk = disk;
  }

  /** Answers the byte that everything between is from now on: another one than before. */
  write(offset: number, length: number): number {
    this.#last = (this.#last % 255) + 1;
    this.disk.fill(this.#last, offset, offset + length);
    return this.#last;
  }

  zero(offset: number, length: number): void {
    this.disk.fill(0, offset, offset + length);
  }

  resize(length: number): void {
    const disk = Buffer.alloc(length);
    this.disk.copy(disk);
    this.disk = disk;
  }

  keep(snapshot: string): void {
    this.#kept.set(snapshot, Buffer.from(this.disk));
  }

  restore(snapshot: string): void {
    const kept = this.#kept.get(snapshot);
    if (kept === undefined) throw new Error(`No snapshot ${snapshot}`);
    this.disk = Buffer.from(kept);
  }
}
