// Values in C structures.

/** Writes a pointer, or a size: eight bytes. */
export function setPointer(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 0x1_0000_0000, true);
  view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
}
