// Readiness of any descriptor (socket, pipe, eventfd, /dev/fuse) from the event loop of node itself, by way of libuv's
// uv_poll_*. The rules: handle memory from calloc, one C callback for all handles and a Map by handle address, memory freed
// in libuv's close callback, nothing ever thrown into libuv, never a descriptor that node's own net module has.
// Promises that a callback resolves run once all callbacks of the same turn of the loop have run.
// uv_default_loop() is the main thread's loop, so a Poller lives there; a worker thread has to block in an epoll of its own.
// A node built without exported libuv symbols cannot be used: the constructor says so.

import { IoError } from '../base/errors.ts';
import { throwLater } from '../base/throw-later.ts';
import { functionPointer, hasSymbol, libc } from './libc.ts';

export const READABLE = 1;
export const WRITABLE = 2;
const BOTH = READABLE | WRITABLE;
const UV_POLL = 8;

/** One watched descriptor. Close it before the descriptor is closed. */
export interface Watch {
  /** Which of READABLE and WRITABLE to report from now on; 0 for none. Reports repeat for as long as the state lasts. */
  want(events: number): void;
  /** No report after this, also from within a report. Idempotent. */
  close(): void;
  /** Whether the watch keeps the program running (it does from the start). */
  ref(): void;
  unref(): void;
}

/** What those need who watch descriptors. */
export interface DescriptorPoller {
  watch(fd: number, onReady: (events: number) => void): Pick<Watch, 'want' | 'close'>;
}

interface PollerOptions {
  /** Where an exception from an `onReady` ends; by default it becomes an `uncaughtException`. */
  readonly onError?: (error: unknown) => void;
}

export class Poller {
  readonly #watches = new Map<number, UvWatch>();
  readonly #onError: (error: unknown) => void;
  readonly #loop: number;
  readonly #handleSize: number;
  readonly #pollCallback: { readonly address: number; release(): void };
  readonly #closeCallback: { readonly address: number; release(): void };
  #handles = 0;
  #closed = false;

  constructor(options: PollerOptions = {}) {
    // Asked of the kernel, since loading node:worker_threads for it would make every start slower.
    if (libc.gettid() !== process.pid) throw new Error('Poller works in the main thread only');
    if (!hasSymbol('uv_poll_init')) {
      throw new Error('This build of node does not export libuv: uv_poll_init is missing');
    }
    this.#onError = options.onError ?? throwLater;
    this.#loop = libc.uv_default_loop();
    this.#handleSize = libc.uv_handle_size(UV_POLL);
    this.#pollCallback = functionPointer(
      'void (uintptr_t, int, int)',
      (handle: number, status: number, events: number) => this.#report(handle, status, events),
    );
    this.#closeCallback = functionPointer('void (uintptr_t)', (handle: number) => {
      libc.free(handle);
      this.#handles--;
      this.#releaseWhenDone();
    });
  }

  /** Watches a descriptor, for nothing yet: call want(). Regular files are refused (EPERM). */
  watch(fd: number, onReady: (events: number) => void): Watch {
    if (this.#closed) throw new Error('Poller is closed');
    const handle = libc.calloc(1, this.#handleSize);
    const result = libc.uv_poll_init(this.#loop, handle, fd);
    if (result < 0) {
      libc.free(handle);
      throw new IoError(-result, { syscall: 'uv_poll_init' });
    }
    this.#handles++;
    const watch = new UvWatch(handle, onReady, {
      pollCallback: this.#pollCallback.address,
      closeCallback: this.#closeCallback.address,
      forget: () => this.#watches.delete(handle),
    });
    this.#watches.set(handle, watch);
    return watch;
  }

  /** Closes every watch. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const watch of this.#watches.values()) watch.close();
    this.#releaseWhenDone();
  }

  #report(handle: number, status: number, events: number): void {
    const watch = this.#watches.get(handle);
    if (watch === undefined) return;
    try {
      // libuv stops a handle whose descriptor went bad; the owner's next system call tells it why.
      if (status < 0) watch.stopped();
      watch.onReady(status < 0 ? BOTH : events & BOTH);
    } catch (error) {
      this.#onError(error);
    }
  }

  #releaseWhenDone(): void {
    if (!this.#closed || this.#handles > 0) return;
    // Not from inside the callback that is to be released.
    setImmediate(() => {
      this.#pollCallback.release();
      this.#closeCallback.release();
    });
  }
}

interface UvCallbacks {
  readonly pollCallback: number;
  readonly closeCallback: number;
  forget(): void;
}

class UvWatch implements Watch {
  readonly onReady: (events: number) => void;
  readonly #handle: number;
  readonly #callbacks: UvCallbacks;
  #wanted = 0;
  #closed = false;

  constructor(handle: number, onReady: (events: number) => void, callbacks: UvCallbacks) {
    this.#handle = handle;
    this.onReady = onReady;
    this.#callbacks = callbacks;
  }

  want(events: number): void {
    if (this.#closed || events === this.#wanted) return;
    this.#wanted = events;
    if (events === 0) libc.uv_poll_stop(this.#handle);
    else libc.uv_poll_start(this.#handle, events, this.#callbacks.pollCallback);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#callbacks.forget();
    libc.uv_close(this.#handle, this.#callbacks.closeCallback);
  }

  ref(): void {
    if (!this.#closed) libc.uv_ref(this.#handle);
  }

  unref(): void {
    if (!this.#closed) libc.uv_unref(this.#handle);
  }

  stopped(): void {
    this.#wanted = 0;
  }
}
