// Keys that the kernel keeps for us: keyctl(2), which the C library has no function for.

import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import { errnoNow, libc } from './libc.ts';

const KEYCTL_READ = 11;
/** Number of the system call, by process.arch. */
const systemCalls: Readonly<Record<string, number>> = { x64: 250, arm64: 219 };

/** The payload of a key; undefined when it has none. Throws IoError. */
export function readKey(serial: number): Buffer | undefined {
  const length = keyctlRead(serial, null);
  if (length === 0) return undefined;
  const payload = Buffer.alloc(length);
  // Another key of the same number, if it has changed in between, is cut.
  return payload.subarray(0, Math.min(length, keyctlRead(serial, payload)));
}

function keyctlRead(serial: number, into: Buffer | null): number {
  const number = systemCalls[process.arch];
  if (number === undefined) throw new IoError(errno.ENOSYS, { syscall: 'keyctl' });
  const result = libc.syscall(number, KEYCTL_READ, serial, into, into?.length ?? 0);
  if (result < 0) throw new IoError(errnoNow(), { syscall: 'keyctl' });
  return result;
}
