// Signals event counters (eventfd(2)) that another process holds as well. Whether a write to one waits is up to that process: it
// can make the descriptor one that waits, fill the counter, and hold the writer for as long as it likes. What the kernel does to
// a counter by itself never waits: a full one stays full. It does so at the end of an asynchronous request (io_submit(2)) that
// names the counter; one for nothing from an empty file has ended before the call returns.

import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import { callLater } from './file.ts';
import { addressOf, errnoNow, libc } from './libc.ts';
import { createSharedFile } from './shared-memory.ts';
import { close } from './socket.ts';

/** Numbers of system calls that the C library has no functions for. */
export interface SystemCalls {
  readonly io_setup: number;
  readonly io_destroy: number;
  readonly io_getevents: number;
  readonly io_submit: number;
}

const systemCalls: Readonly<Record<string, SystemCalls>> = {
  x64: { io_setup: 206, io_destroy: 207, io_getevents: 208, io_submit: 209 },
  arm64: { io_setup: 0, io_destroy: 1, io_getevents: 4, io_submit: 2 },
};

/** Requests under way that a context must have room for; the kernel makes it about a hundred. */
const CONTEXT_SIZE = 1;
const RWF_NOWAIT = 8;
/** The offset of pwritev2() that stands for "where the file is". */
const HERE = -1;
const POLLOUT = 4;
/** There is no such descriptor: write() says so better. */
const POLLNVAL = 32;
const IOCB_CMD_PREAD = 0;
const IOCB_FLAG_RESFD = 1;

// One block, longer than 64 bytes, so that it is not on the V8 heap:
//   [ 0 ..  7]  the context, an aio_context_t      [ 8 .. 15]  address of the request
//   [16 .. 23]  the number one                     [24 .. 39]  an iovec of it
//   [40 .. 47]  struct pollfd: descriptor, events, answer
//   [48 .. 111]  struct iocb: [64] opcode [68] file [104] flags [108] counter, all else 0
//   [112 .. ]  events of requests that have ended, 32 bytes each
const REQUEST_POINTER = 8;
const ONE = 16;
const VECTOR = 24;
const POLL = 40;
const REQUEST = 48;
const COUNTER = 108;
const EVENTS = 112;
const MAX_EVENTS = 64;

export class EventSignaller {
  readonly #bytes = Buffer.alloc(EVENTS + MAX_EVENTS * 32);
  readonly #view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.length);
  readonly #address = addressOf(this.#bytes);
  readonly #calls: SystemCalls | undefined;
  /** 0 before the first signal, and where the kernel gives none. */
  #context = 0;
  #emptyFile = -1;
  #tried = false;

  /** `calls` is for tests: undefined where the kernel does nothing for us. */
  constructor({ calls = systemCalls[process.arch] }: { calls?: SystemCalls | undefined } = {}) {
    this.#calls = calls;
  }

  /** Whether the kernel does it, so that nobody can make us wait. */
  get neverWaits(): boolean {
    if (!this.#tried) this.#setUp();
    return this.#context !== 0;
  }

  /** Adds one; a counter at its limit stays there. Throws IoError: EINVAL for what is no counter, as far as it could wait. */
  signal(fd: number): void {
    if (!this.#tried) this.#setUp();
    if (this.#context === 0) this.#writeIfReady(fd);
    else this.#submit(fd);
  }

  /** Idempotent; resolves when the kernel has given everything back. Nothing may be signalled afterwards. */
  async close(): Promise<void> {
    if (this.#context === 0) return;
    const context = this.#context;
    this.#context = 0;
    const number = this.#calls?.io_destroy ?? 0;
    // It waits for a while, whatever there is to wait for.
    await callLater((done) => libc.syscallOfNumbers.async(number, context, 0, 0, 0, 0, done));
    close(this.#emptyFile);
  }

  #setUp(): void {
    const view = this.#view;
    view.setBigUint64(ONE, 1n, true);
    view.setBigUint64(VECTOR, BigInt(this.#address + ONE), true);
    view.setBigUint64(VECTOR + 8, 8n, true);
    const calls = this.#calls;
    // Fails when no descriptor is left; the next signal tries again then.
    const file = calls === undefined ? -1 : createSharedFile('nothing', 0);
    this.#tried = true;
    if (calls === undefined) return;
    // EAGAIN: the system has no more of them. ENOSYS, EPERM: it was built or confined to have none.
    if (this.#call(calls.io_setup, CONTEXT_SIZE, this.#address) < 0) {
      close(file);
      return;
    }
    this.#emptyFile = file;
    view.setBigUint64(REQUEST_POINTER, BigInt(this.#address + REQUEST), true);
    view.setUint16(REQUEST + 16, IOCB_CMD_PREAD, true);
    view.setInt32(REQUEST + 20, file, true);
    view.setUint32(REQUEST + 56, IOCB_FLAG_RESFD, true);
    this.#context = Number(view.getBigUint64(0, true));
  }

  #submit(fd: number): void {
    const calls = this.#calls as SystemCalls;
    this.#view.setInt32(COUNTER, fd, true);
    const at = this.#address + REQUEST_POINTER;
    while (this.#call(calls.io_submit, this.#context, 1, at) < 0) {
      const code = errnoNow();
      // Nobody has asked what became of the requests before.
      if (code === errno.EAGAIN) this.#forgetEvents(calls);
      else if (code === errno.EINVAL) return this.#writeNow(fd);
      else throw new IoError(code, { syscall: 'io_submit' });
    }
  }

  #forgetEvents({ io_getevents }: SystemCalls): void {
    const into = this.#address + EVENTS;
    if (this.#call(io_getevents, this.#context, 0, MAX_EVENTS, into) <= 0) {
      throw new IoError(errno.EAGAIN, { syscall: 'io_submit' });
    }
  }

  /** To a pipe or a socket, in the place of a counter. */
  #writeNow(fd: number): void {
    while (libc.pwritev2(fd, this.#address + VECTOR, 1, HERE, RWF_NOWAIT) < 0) {
      const code = errnoNow();
      if (code === errno.EAGAIN) return;
      if (code === errno.ENOTSUP) throw new IoError(errno.EINVAL, { syscall: 'io_submit' });
      if (code !== errno.EINTR) throw new IoError(code, { syscall: 'write' });
    }
  }

  /** Where the kernel does not do it for us. Whoever fills the counter between the two calls still makes us wait. */
  #writeIfReady(fd: number): void {
    const view = this.#view;
    view.setInt32(POLL, fd, true);
    view.setInt16(POLL + 4, POLLOUT, true);
    libc.poll(this.#address + POLL, 1, 0);
    const answer = view.getInt16(POLL + 6, true);
    if ((answer & (POLLOUT | POLLNVAL)) === 0) return;
    while (libc.write(fd, this.#address + ONE, 8) < 0) {
      const code = errnoNow();
      if (code === errno.EAGAIN) return;
      if (code !== errno.EINTR) throw new IoError(code, { syscall: 'write' });
    }
  }

  #call(number: number, first: number, second: number, third = 0, fourth = 0): number {
    return libc.syscallOfNumbers(number, first, second, third, fourth, 0);
  }
}
