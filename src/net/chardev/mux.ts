// A multiplexer: up to four users of one chardev. What they say is mixed. What comes goes to the one of them that has the focus,
// but for the escape character, Ctrl-A, and the key that follows it: one of them moves the focus on, another ends the daemon.

import { QmpError } from '../../qapi/errors.ts';
import type { ChardevMux } from '../../qapi/generated/types.ts';
import type { ChardevBase, ChardevFrontend, ChardevPort, PortContext } from './chardev.ts';

const ESCAPE = 0x01;
/** The reference's limit. */
const MAX_SEATS = 4;
/** What may come for a user that does not take it before no more is read: an escape may be among it. */
const HELD_BYTES = 32;
const NEWLINE = 0x0a;

const HELP = [
  '',
  'C-a h    print this help',
  'C-a x    exit emulator',
  'C-a s    save disk data back to file (if -snapshot)',
  'C-a t    toggle console timestamps',
  'C-a b    send break (magic sysrq)',
  'C-a c    switch between console and monitor',
  'C-a C-a  sends C-a',
]
  .map((line) => `${line}\n\r`)
  .join('');

/** Throws QmpError. */
export function openMux({ chardev }: ChardevMux, context: PortContext): ChardevPort {
  const base = context.find(chardev);
  if (base === undefined) throw new QmpError(`mux: base chardev ${chardev} not found`);
  const port = new MuxPort(base, context);
  base.claim(port);
  return port;
}

class MuxPort implements ChardevPort, ChardevFrontend {
  readonly #base: ChardevBase;
  readonly #context: PortContext;
  readonly #stamps = new LineStamps();
  readonly #seats: Seat[] = [];
  #focus: Seat | undefined;
  #onBase = false;
  #escaped = false;

  constructor(base: ChardevBase, context: PortContext) {
    this.#base = base;
    this.#context = context;
  }

  filename(): string {
    return 'mux';
  }

  /** One for each user. */
  seat(): ChardevBase {
    return new Seat(this);
  }

  get attached(): boolean {
    return this.#focus?.frontend !== undefined;
  }

  get id(): string {
    return this.#context.id;
  }

  get hasInput(): boolean {
    return this.#base.hasInput;
  }

  /** What a user says: through the log file, too. */
  say(bytes: Uint8Array): boolean {
    return this.#context.say(bytes);
  }

  write(bytes: Uint8Array): boolean {
    return this.#base.write(this.#stamps.stamped(bytes));
  }

  /** Input comes from the base, as the users take it. */
  acceptInput(): void {}

  /** Throws QmpError when there is no room. */
  addSeat(seat: Seat): void {
    if (this.#seats.length >= MAX_SEATS) throw new QmpError(`Device '${this.id}' is in use`);
    this.#seats.push(seat);
  }

  /** Who comes has the focus, and need not wait for a peer: the reference's multiplexers always count as open. */
  seatTaken(seat: Seat): void {
    if (!this.#onBase) this.#base.attach(this);
    this.#onBase = true;
    this.#focus = seat;
    seat.open();
    this.tellAccept();
  }

  tellAccept(): void {
    const focus = this.#focus;
    if (this.#onBase && focus !== undefined) {
      this.#base.acceptInput(focus.accepts || focus.heldBytes < HELD_BYTES);
    }
  }

  onOpen(): void {
    // At the first user: it hears of it anyway.
    if (!this.#onBase) return;
    this.#escaped = false;
    for (const seat of this.#seats) seat.open();
  }

  onClose(): void {
    for (const seat of this.#seats) seat.frontend?.onClose();
  }

  onDrain(): void {
    for (const seat of this.#seats) seat.frontend?.onDrain();
  }

  onInput(bytes: Uint8Array): void {
    let start = 0;
    for (const [at, byte] of bytes.entries()) {
      if (this.#escaped) {
        this.#escaped = false;
        start = byte === ESCAPE ? at : at + 1;
        if (byte !== ESCAPE) this.#key(String.fromCharCode(byte));
      } else if (byte === ESCAPE) {
        this.#focus?.input(bytes.subarray(start, at));
        this.#escaped = true;
        start = at + 1;
      }
    }
    this.#focus?.input(bytes.subarray(start));
    this.tellAccept();
  }

  close(): void {
    this.#base.detach();
  }

  /** `b`, a break, is for users that listen to breaks, and `s` for disks with snapshots of the moment: there are none. */
  #key(key: string): void {
    switch (key) {
      case 'h':
      case '?':
        this.say(Buffer.from(HELP));
        break;
      case 'x':
        this.say(Buffer.from('QEMU: Terminated\n\r'));
        this.#context.quit();
        break;
      case 'c':
        this.#moveFocus();
        break;
      case 't':
        this.#stamps.toggle();
        break;
    }
  }

  #moveFocus(): void {
    const now = this.#focus === undefined ? -1 : this.#seats.indexOf(this.#focus);
    this.#focus = this.#seats[(now + 1) % this.#seats.length];
  }
}

/** The multiplexer as one of its users sees it. */
class Seat implements ChardevBase {
  readonly #mux: MuxPort;
  #claimed = false;
  #accept = false;
  #held: Uint8Array[] = [];
  frontend: ChardevFrontend | undefined;

  constructor(mux: MuxPort) {
    this.#mux = mux;
  }

  get id(): string {
    return this.#mux.id;
  }

  get hasInput(): boolean {
    return this.#mux.hasInput;
  }

  get accepts(): boolean {
    return this.#accept && this.frontend !== undefined;
  }

  get heldBytes(): number {
    return this.#held.reduce((sum, { length }) => sum + length, 0);
  }

  filename(): string {
    return this.#mux.filename();
  }

  claim(): void {
    this.#mux.addSeat(this);
    this.#claimed = true;
  }

  attach(frontend: ChardevFrontend): void {
    if (!this.#claimed) this.claim();
    this.frontend = frontend;
    this.#mux.seatTaken(this);
  }

  detach(): void {
    this.frontend = undefined;
    this.#held = [];
  }

  write(bytes: Uint8Array): boolean {
    return this.#mux.say(bytes);
  }

  acceptInput(accept: boolean): void {
    this.#accept = accept;
    while (this.accepts && this.#held.length > 0) {
      this.frontend?.onInput(this.#held.shift() as Uint8Array);
    }
    this.#mux.tellAccept();
  }

  /** A peer is there: nothing of the one before it counts. */
  open(): void {
    this.#held = [];
    this.#accept = true;
    this.frontend?.onOpen();
  }

  input(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    if (this.accepts && this.#held.length === 0) this.frontend?.onInput(bytes);
    else this.#held.push(Uint8Array.from(bytes));
  }
}

/** The time in front of each line that begins after it is switched on, counted from the first of them. */
class LineStamps {
  #on = false;
  #lineStarts = false;
  #begin: number | undefined;

  toggle(): void {
    this.#on = !this.#on;
    this.#lineStarts = false;
    this.#begin = undefined;
  }

  stamped(bytes: Uint8Array): Uint8Array {
    if (!this.#on) return bytes;
    const parts: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; ) {
      const newline = bytes.indexOf(NEWLINE, at);
      const end = newline < 0 ? bytes.length : newline + 1;
      if (this.#lineStarts) parts.push(Buffer.from(this.#stamp()));
      parts.push(bytes.subarray(at, end));
      this.#lineStarts = newline >= 0;
      at = end;
    }
    return Buffer.concat(parts);
  }

  #stamp(): string {
    const now = Math.floor(performance.now());
    this.#begin ??= now;
    const milliseconds = now - this.#begin;
    const seconds = Math.floor(milliseconds / 1000);
    const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
    const clock = [hours, minutes, seconds % 60].map((part) => String(part).padStart(2, '0'));
    return `[${clock.join(':')}.${String(milliseconds % 1000).padStart(3, '0')}] `;
  }
}
