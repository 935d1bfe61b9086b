// What all exports have in common: an owner (the user, until it is removed), references of clients, a handle on the exported
// node, and an end once nobody is left.

import type { MaybePromise } from '../base/io-buffer.ts';
import type { BlockBackend } from '../block/block-backend.ts';
import type { BlockExportType, XBlockExportRemoveMode } from '../qapi/generated/types.ts';
import type { Ending } from './closing-order.ts';
import type { RunningExport } from './export-driver.ts';

export interface BlockExportParts {
  readonly id: string;
  readonly type: BlockExportType;
  readonly backend: BlockBackend;
  readonly writable: boolean;
  /** Called once when it has ended and let go of its node. */
  readonly onDeleted: (deleted: BlockExport) => void;
}

/** Ways to remove an export: what becomes of its clients. */
export type Removal = XBlockExportRemoveMode | 'hard';

/** A removal can be followed by a harder one. */
const hardness = { hide: 1, soft: 2, hard: 3 } as const satisfies Record<Removal, number>;

export class BlockExport {
  readonly id: string;
  readonly type: BlockExportType;
  readonly backend: BlockBackend;
  readonly writable: boolean;
  /** Resolves when it has ended and BLOCK_EXPORT_DELETED has been sent. */
  readonly deleted: Promise<void>;
  readonly #onDeleted: (deleted: BlockExport) => void;
  #resolveDeleted: () => void = () => {};
  #running: RunningExport | undefined;
  /** The user's reference and one for each client. */
  #references = 1;
  #removal: Removal | undefined;

  constructor(parts: BlockExportParts) {
    this.id = parts.id;
    this.type = parts.type;
    this.backend = parts.backend;
    this.writable = parts.writable;
    this.#onDeleted = parts.onDeleted;
    this.deleted = new Promise((resolve) => {
      this.#resolveDeleted = resolve;
    });
  }

  /** The user has removed it; clients may still be on their way out. */
  get shuttingDown(): boolean {
    return this.#removal !== undefined;
  }

  /** How the user has removed it, the hardest way so far. */
  get removal(): Removal | undefined {
    return this.#removal;
  }

  /** Somebody besides the user refers to it. */
  get inUse(): boolean {
    return this.#references > (this.shuttingDown ? 0 : 1);
  }

  start(running: RunningExport): void {
    this.#running = running;
  }

  ref(): void {
    if (this.#references === 0) throw new Error(`Export '${this.id}' has ended`);
    this.#references++;
  }

  unref(): void {
    this.#references--;
    if (this.#references === 0) void this.#delete();
  }

  /** What its end would take now. */
  ending(): Ending {
    return this.#running?.ending?.() ?? { kind: 'at-once' };
  }

  /** Drops the user's reference and asks the clients to go. Does nothing the second time. */
  requestShutdown(): void {
    void this.#remove('hard', () => this.#running?.requestShutdown());
  }

  /** Drops the user's reference and keeps new clients away. Does nothing when that, or more, has been done. */
  retire(mode: XBlockExportRemoveMode): MaybePromise<void> {
    return this.#remove(mode, () => this.#running?.retire(mode));
  }

  #remove(removal: Removal, work: () => MaybePromise<void>): MaybePromise<void> {
    const before = this.#removal;
    if (before !== undefined && hardness[removal] <= hardness[before]) return;
    if (this.#references === 0) return;
    this.#removal = removal;
    const later = work();
    if (before === undefined) this.unref();
    return later;
  }

  async #delete(): Promise<void> {
    try {
      await this.#running?.delete();
      await this.backend.release();
    } finally {
      this.#onDeleted(this);
      this.#resolveDeleted();
    }
  }
}
