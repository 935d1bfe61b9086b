// Bytes with open files attached to them, over unix sockets (SCM_RIGHTS).

import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import { addressOf, errnoNow, libc } from './libc.ts';
import { WOULD_BLOCK } from './socket.ts';
import { setPointer } from './structs.ts';

const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_CTRUNC = 0x8;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x4000_0000;

/** Files that one call can receive. */
const MAX_FDS = 16;

// struct msghdr: [0] name [8] namelen [16] iov [24] iovlen [32] control [40] controllen [48] flags
// struct iovec at 64; control messages from 96 on, each: [0] length [8] level [12] type [16] data, 8-byte aligned
const VECTOR = 64;
const CONTROL = 96;
const CONTROL_HEADER = 16;
const CONTROL_LENGTH = CONTROL_HEADER + 4 * MAX_FDS;

/** Sends and receives on any unix stream socket, with the memory that this needs. */
export class FdPassing {
  readonly #bytes = Buffer.alloc(CONTROL + CONTROL_LENGTH);
  readonly #view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.length);
  readonly #address = addressOf(this.#bytes);

  /**
   * Receives up to `length` bytes at `address`: their number, 0 at the end of the stream, or WOULD_BLOCK. Files that came
   * with them are added to `fds` and are the caller's, also when this throws. Throws IoError, EMFILE when files were lost.
   */
  receive(socket: number, address: number, length: number, fds: number[]): number {
    this.#prepare(address, length, CONTROL_LENGTH);
    for (;;) {
      const received = libc.recvmsg(socket, this.#address, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
      if (received >= 0) {
        this.#collect(fds);
        return received;
      }
      const code = errnoNow();
      if (code === errno.EAGAIN) return WOULD_BLOCK;
      if (code !== errno.EINTR) throw new IoError(code, { syscall: 'recvmsg' });
    }
  }

  /** Sends bytes at `address`, with a file if `fd` is not negative: how many were taken, or WOULD_BLOCK. Throws IoError. */
  send(socket: number, address: number, length: number, fd = -1): number {
    this.#prepare(address, length, fd < 0 ? 0 : CONTROL_HEADER + 8);
    const view = this.#view;
    view.setBigUint64(CONTROL, BigInt(CONTROL_HEADER + 4), true);
    view.setInt32(CONTROL + 8, SOL_SOCKET, true);
    view.setInt32(CONTROL + 12, SCM_RIGHTS, true);
    view.setInt32(CONTROL + CONTROL_HEADER, fd, true);
    for (;;) {
      const sent = libc.sendmsg(socket, this.#address, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent >= 0) return sent;
      const code = errnoNow();
      if (code === errno.EAGAIN) return WOULD_BLOCK;
      if (code !== errno.EINTR) throw new IoError(code, { syscall: 'sendmsg' });
    }
  }

  #prepare(address: number, length: number, controlLength: number): void {
    const view = this.#view;
    this.#bytes.fill(0, 0, CONTROL);
    setPointer(view, 16, this.#address + VECTOR);
    view.setUint32(24, 1, true);
    setPointer(view, 32, this.#address + CONTROL);
    view.setUint32(40, controlLength, true);
    setPointer(view, VECTOR, address);
    setPointer(view, VECTOR + 8, length);
  }

  #collect(fds: number[]): void {
    const view = this.#view;
    const end = CONTROL + view.getUint32(40, true);
    for (let at = CONTROL; at + CONTROL_HEADER <= end; ) {
      const length = view.getUint32(at, true);
      if (
        view.getInt32(at + 8, true) === SOL_SOCKET &&
        view.getInt32(at + 12, true) === SCM_RIGHTS
      ) {
        for (let fd = at + CONTROL_HEADER; fd + 4 <= at + length; fd += 4) {
          fds.push(view.getInt32(fd, true));
        }
      }
      at += Math.max(CONTROL_HEADER, Math.ceil(length / 8) * 8);
    }
    if ((view.getUint32(48, true) & MSG_CTRUNC) !== 0) {
      throw new IoError(errno.EMFILE, { syscall: 'recvmsg' });
    }
  }
}
