// Terminals and pseudo-terminals.
//   struct termios (glibc): [0] iflag [4] oflag [8] cflag [12] lflag [17] cc[32], 60 bytes

import { IoError } from '../base/errors.ts';
import { errnoNow, libc } from './libc.ts';

const TERMIOS_BYTES = 64;
const LFLAG_AT = 12;
const ISIG = 1;
const TCSANOW = 0;
const TCSAFLUSH = 2;
const O_RDWR = 2;
const O_NOCTTY = 0o400;
const O_CLOEXEC = 0o2000000;

/** A terminal's modes; opaque to callers. */
export type TerminalModes = Buffer;

/** The modes now, or undefined when the descriptor is no terminal. */
export function terminalModes(fd: number): TerminalModes | undefined {
  const modes = Buffer.alloc(TERMIOS_BYTES);
  return libc.tcgetattr(fd, modes) === 0 ? modes : undefined;
}

export function setTerminalModes(fd: number, modes: TerminalModes): void {
  libc.tcsetattr(fd, TCSANOW, modes);
}

/** The same modes, but Ctrl-C and its like are input and no signals. */
export function modesWithoutSignals(modes: TerminalModes): TerminalModes {
  const copy = Buffer.from(modes);
  copy.writeUInt32LE((copy.readUInt32LE(LFLAG_AT) & ~ISIG) >>> 0, LFLAG_AT);
  return copy;
}

/** A new pseudo-terminal in raw mode: its master and the path of the other side. Throws IoError. */
export function openPseudoTerminal(): { readonly fd: number; readonly path: string } {
  const fd = libc.posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (fd < 0) throw failed('posix_openpt');
  try {
    if (libc.grantpt(fd) < 0) throw failed('grantpt');
    if (libc.unlockpt(fd) < 0) throw failed('unlockpt');
    const name = Buffer.alloc(128);
    if (libc.ptsname_r(fd, name, name.length) !== 0) throw failed('ptsname_r');
    const path = name.toString('latin1', 0, name.indexOf(0));
    makeRaw(path);
    return { fd, path };
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

/** Opening the other side once also makes the master tell when nobody has it open. */
function makeRaw(path: string): void {
  const fd = libc.open(path, O_RDWR | O_NOCTTY | O_CLOEXEC, 0);
  if (fd < 0) throw failed('open');
  const modes = terminalModes(fd);
  if (modes !== undefined) {
    libc.cfmakeraw(modes);
    libc.tcsetattr(fd, TCSAFLUSH, modes);
  }
  libc.close(fd);
}

function failed(syscall: string): IoError {
  return new IoError(errnoNow(), { syscall });
}
