// A connected socket as a ByteChannel: system calls on the descriptor, readiness from the poller, no Node stream in between.

import type { DataPipe } from '../base/data-pipe.ts';
import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import type { IoBuffer } from '../base/io-buffer.ts';
import { GatheringSender, MAX_PARTS } from '../sys/gathering-sender.ts';
import { type DescriptorPoller, READABLE, type Watch, WRITABLE } from '../sys/poller.ts';
import type { SocketName } from '../sys/sockaddr.ts';
import {
  close,
  FileSender,
  localName,
  peerName,
  receive,
  send,
  setSocketOption,
  shutdown,
} from '../sys/socket.ts';
import type { ByteChannel, Part } from './byte-channel.ts';
import { textOfName } from './socket-address.ts';

/** libuv's UV_DISCONNECT. The poller reports it as no event at all. */
const HANGUP = 4;

/** Bytes that a socket holds for its peer to take; the kernel may allow less. */
const SEND_BUFFER = 512 * 1024;

/** Owns the descriptor from construction to close(). */
export class SocketChannel implements ByteChannel {
  readonly unbuffered = true;
  onReadable: () => void = () => {};
  onWritable: () => void = () => {};
  /** Called when the peer has closed, for as long as `wantHangup(true)` and nothing is wanted to read. */
  onHangup: () => void = () => {};
  readonly fd: number;
  readonly local: SocketName;
  readonly remote: SocketName;
  readonly #poller: DescriptorPoller;
  #watch: Pick<Watch, 'want' | 'close'> | undefined;
  #files: FileSender | undefined;
  #gatherer: GatheringSender | undefined;
  #wanted = 0;
  #closed = false;

  /** `fd` is a connected socket. */
  constructor(fd: number, poller: DescriptorPoller) {
    this.fd = fd;
    this.#poller = poller;
    this.local = nameOrNone(() => localName(fd));
    this.remote = nameOrNone(() => peerName(fd));
  }

  get peer(): string {
    return textOfName(this.remote);
  }

  wantReadable(want: boolean): void {
    this.#want(want ? this.#wanted | READABLE : this.#wanted & ~READABLE);
  }

  wantWritable(want: boolean): void {
    this.#want(want ? this.#wanted | WRITABLE : this.#wanted & ~WRITABLE);
  }

  /** Only unix sockets tell a closed peer from one that merely sends no more. */
  wantHangup(want: boolean): void {
    if (this.local.family !== 'unix' && this.local.family !== 'abstract') return;
    this.#want(want ? this.#wanted | HANGUP : this.#wanted & ~HANGUP);
  }

  receive(into: IoBuffer, at: number, max: number): number {
    return receive(this.fd, into.address + at, max);
  }

  send(from: IoBuffer, at: number, length: number): number {
    return send(this.fd, from.address + at, length);
  }

  sendParts(parts: readonly Part[], count: number, skip: number): number {
    this.#gatherer ??= new GatheringSender();
    for (let index = 0; index < count && index < MAX_PARTS; index++) {
      const { buffer, at, length } = parts[index] as Part;
      const skipped = index === 0 ? skip : 0;
      this.#gatherer.add(buffer.address + at + skipped, length - skipped);
    }
    return this.#gatherer.send(this.fd);
  }

  sendFile(
    from: IoBuffer,
    at: number,
    headerLength: number,
    file: { readonly fd: number; readonly offset: number },
    length: number,
  ): number {
    const header = { address: from.address + at, length: headerLength };
    this.#files ??= new FileSender();
    return this.#files.send(this.fd, header, file, length);
  }

  receiveInto(pipe: DataPipe, max: number): number {
    return pipe.fill(this.fd, max);
  }

  sendFrom(pipe: DataPipe): number {
    return pipe.drain(this.fd);
  }

  shutdown(): void {
    if (!this.#closed) shutdown(this.fd);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#watch?.close();
    close(this.fd);
  }

  /** Gives the descriptor away: it is the caller's, and the channel is closed. */
  detach(): number {
    if (this.#closed) throw new IoError(errno.EBADF, { syscall: 'detach' });
    this.#closed = true;
    this.#watch?.close();
    return this.fd;
  }

  /** A channel for the same connection in place of this one, which is closed. */
  handOver(): SocketChannel {
    return new SocketChannel(this.detach(), this.#poller);
  }

  /** Sends small segments at once. Does nothing on sockets that know no such delay. */
  setNoDelay(): void {
    const { family } = this.local;
    if (family !== 'inet' && family !== 'inet6') return;
    try {
      setSocketOption(this.fd, 'TCP_NODELAY', 1);
    } catch {
      // As the reference: an optimisation, not a promise.
    }
  }

  /**
   * Lets large data leave in one go; the kernel's default is less than the 256 KiB that are usual. Not for TCP, whose buffers
   * the kernel sizes better itself.
   */
  enlargeSendBuffer(): void {
    const { family } = this.local;
    if (family !== 'unix' && family !== 'abstract') return;
    try {
      setSocketOption(this.fd, 'SO_SNDBUF', SEND_BUFFER);
    } catch {
      // An optimisation, not a promise.
    }
  }

  #want(events: number): void {
    if (this.#closed || events === this.#wanted) return;
    this.#wanted = events;
    this.#watch ??= this.#poller.watch(this.fd, (ready) => this.#ready(ready));
    this.#watch.want(events);
  }

  #hungUp(): void {
    try {
      // Sends nothing, but fails when the peer receives no more either.
      send(this.fd, 0, 0);
      this.wantHangup(false);
    } catch {
      this.onHangup();
    }
  }

  #ready(events: number): void {
    if ((events & this.#wanted & READABLE) !== 0) this.onReadable();
    if (events === 0 && (this.#wanted & HANGUP) !== 0) this.#hungUp();
    // onReadable may have closed the channel or taken the wish back.
    if (!this.#closed && (events & this.#wanted & WRITABLE) !== 0) this.onWritable();
  }
}

// A peer may be gone before it is asked for its name.
function nameOrNone(ask: () => SocketName): SocketName {
  try {
    return ask();
  } catch {
    return { family: 'unix', path: '' };
  }
}
