// Terminals and pseudo-terminals.
//   struct termios (glibc): [0] iflag [4] oflag [8] cflag [12] lflag [17] cc[32]

import { IoError } from '../base/errors.ts';
import { errnoNow, libc } from './libc.ts';

const TERMIOS_BYTES = 64;
const CC_AT = 17;
const VTIME = 5;
const VMIN = 6;
const TCSANOW = 0;
const TCSAFLUSH = 2;
const O_RDWR = 2;
const O_NOCTTY = 0o400;
const O_CLOEXEC = 0o2000000;

// c_iflag
const IGNBRK = 0o1;
const BRKINT = 0o2;
const PARMRK = 0o10;
const ISTRIP = 0o40;
const INLCR = 0o100;
const IGNCR = 0o200;
const ICRNL = 0o400;
const IXON = 0o2000;
// c_oflag
const OPOST = 0o1;
// c_cflag
const CSIZE = 0o60;
const CS8 = 0o60;
const PARENB = 0o400;
// c_lflag
const ISIG = 0o1;
const ICANON = 0o2;
const ECHO = 0o10;
const ECHONL = 0o100;
const IEXTEN = 0o100000;

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

/** Modes for keystrokes one by one: no echo, no line editing; with `signals`, Ctrl-C is still an interrupt. */
export function keystrokeModes(modes: TerminalModes, options: { signals: boolean }): TerminalModes {
  const copy = Buffer.from(modes);
  change(copy, 0, { clear: IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON });
  change(copy, 4, { clear: 0, set: OPOST });
  change(copy, 8, { clear: CSIZE | PARENB, set: CS8 });
  const noSignals = options.signals ? 0 : ISIG;
  change(copy, 12, { clear: ECHO | ECHONL | ICANON | IEXTEN | noSignals });
  copy[CC_AT + VMIN] = 1;
  copy[CC_AT + VTIME] = 0;
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

function change(modes: Buffer, at: number, flags: { clear: number; set?: number }): void {
  const value = modes.readUInt32LE(at);
  modes.writeUInt32LE(((value & ~flags.clear) | (flags.set ?? 0)) >>> 0, at);
}

function failed(syscall: string): IoError {
  return new IoError(errnoNow(), { syscall });
}
