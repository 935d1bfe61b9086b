// What all exports have in common: an owner (the user, until it is removed), references of clients, a handle on the exported
// node, and an end once nobody is left.

import type { BlockBackend } from '../block/block-backend.ts';
import type { BlockExportType } from '../qapi/generated/types.ts';
import type { RunningExport } from './export-driver.ts';

export interface BlockExportParts {
  readonly id: string;
  readonly type: BlockExportType;
  readonly backend: BlockBackend;
  readonly writable: boolean;
  /** Called once when it has ended and let go of its node. */
  readonly onDeleted: (deleted: BlockExport) => void;
}

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
  #shuttingDown = false;

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
    return this.#shuttingDown;
  }

  /** Somebody besides the user refers to it. */
  get inUse(): boolean {
    return this.#references > (this.#shuttingDown ? 0 : 1);
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

  /** Drops the user's reference and asks the clients to go. Does nothing the second time. */
  requestShutdown(): void {
    if (this.#shuttingDown) return;
    this.#shuttingDown = true;
    this.#running?.requestShutdown();
    this.unref();
  }

  async #delete(): Promise<void> {
    this.#running?.delete();
    try {
      await this.backend.release();
    } finally {
      this.#onDeleted(this);
      this.#resolveDeleted();
    }
  }
}
