// Terminals and pseudo-terminals.
//   struct termios (glibc): [0] iflag [4] oflag [8] cflag [12] lflag [17] cc[32], 60 bytes

import { IoError } from '../base/errors.ts';
import { errnoNow, libc } from './libc.ts';

const TERMIOS_BYTES = 64;
const IFLAG_AT = 0;
const OFLAG_AT = 4;
const CFLAG_AT = 8;
const LFLAG_AT = 12;
const VTIME_AT = 17 + 5;
const VMIN_AT = 17 + 6;
/** IGNBRK, BRKINT, PARMRK, ISTRIP, INLCR, IGNCR, ICRNL, IXON */
const INPUT_CHANGES = 0o1 | 0o2 | 0o10 | 0o40 | 0o100 | 0o200 | 0o400 | 0o2000;
const OPOST = 0o1;
const CS8 = 0o60;
/** CSIZE, CSTOPB, PARENB, CRTSCTS */
const FRAMING = 0o60 | 0o100 | 0o400 | 0o20000000000;
const PARENB = 0o400;
const B115200 = 0o10002;
const ISIG = 0o1;
/** ICANON, ECHO, ECHONL, IEXTEN */
const LINE_EDITING = 0o2 | 0o10 | 0o100 | 0o100000;
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

/**
 * The same modes with changes. `keys`: every key is input at once, as it is, and not echoed; what is written is still processed.
 * `signals: false`: Ctrl-C and its like are input, too.
 */
export function changedModes(
  modes: TerminalModes,
  { keys, signals }: { readonly keys: boolean; readonly signals: boolean },
): TerminalModes {
  const copy = Buffer.from(modes);
  if (keys) {
    change(copy, IFLAG_AT, INPUT_CHANGES);
    change(copy, OFLAG_AT, 0, OPOST);
    change(copy, CFLAG_AT, PARENB, CS8);
    change(copy, LFLAG_AT, LINE_EDITING);
    copy[VMIN_AT] = 1;
    copy[VTIME_AT] = 0;
  }
  if (!signals) change(copy, LFLAG_AT, ISIG);
  return copy;
}

/** 115200 baud, eight bits, no parity, one stop bit, no flow control, nothing processed. No effect on what is no terminal. */
export function makeSerialLine(fd: number): void {
  const modes = terminalModes(fd);
  if (modes === undefined) return;
  libc.cfsetspeed(modes, B115200);
  change(modes, IFLAG_AT, INPUT_CHANGES);
  change(modes, OFLAG_AT, OPOST);
  change(modes, CFLAG_AT, FRAMING, CS8);
  change(modes, LFLAG_AT, LINE_EDITING | ISIG);
  setTerminalModes(fd, modes);
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

function change(modes: Buffer, at: number, off: number, on = 0): void {
  modes.writeUInt32LE(((modes.readUInt32LE(at) & ~off) | on) >>> 0, at);
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
