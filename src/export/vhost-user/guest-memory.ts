// The frontend's memory: regions of files that it has sent, mapped, and the ways from its addresses to ours. Memory that may
// vanish under us is copied by the kernel; all of it is, as soon as one region is like that.

import { errno } from '../../base/errno.ts';
import { IoError, ProtocolError } from '../../base/errors.ts';
import {
  copyMemory,
  GuardedCopy,
  mapShared,
  type SharedMapping,
  unmapShared,
} from '../../sys/shared-memory.ts';
import { MAX_MEM_SLOTS } from './protocol.ts';
import type { MemoryRegion } from './wire.ts';

interface MappedRegion extends MemoryRegion {
  readonly mapping: SharedMapping;
}

export class GuestMemory {
  #regions: readonly MappedRegion[] = [];
  /** Made with the first memory that needs it. */
  #guarded: GuardedCopy | undefined;
  /** The region of the last translation: most requests stay in one. */
  #last: MappedRegion | undefined;

  /** How to copy what may not be looked at; undefined while all of it lasts. */
  get guarded(): GuardedCopy | undefined {
    return this.#guarded;
  }

  /** Replaces all regions; `fds` are the caller's still. Throws ProtocolError or IoError, and then nothing has changed. */
  replace(regions: readonly MemoryRegion[], fds: readonly number[]): void {
    const old = this.#regions;
    this.#extend([], regions, fds);
    for (const { mapping } of old) unmapShared(mapping);
  }

  /** Adds one; `fd` is the caller's still. Throws ProtocolError or IoError, and then nothing has changed. */
  add(region: MemoryRegion, fd: number): void {
    if (this.#regions.length >= MAX_MEM_SLOTS) {
      throw new ProtocolError('memory regions', MAX_MEM_SLOTS + 1, `at most ${MAX_MEM_SLOTS}`);
    }
    this.#extend(this.#regions, [region], [fd]);
  }

  /** Throws ProtocolError when there is no such region. */
  remove({ guestAddress, userAddress, size }: MemoryRegion): void {
    const found = this.#regions.find(
      (known) =>
        known.guestAddress === guestAddress &&
        known.userAddress === userAddress &&
        known.size === size,
    );
    if (found === undefined) throw new ProtocolError('memory region', guestAddress, 'one in use');
    this.#set(this.#regions.filter((known) => known !== found));
    unmapShared(found.mapping);
  }

  clear(): void {
    const old = this.#regions;
    this.#set([]);
    for (const { mapping } of old) unmapShared(mapping);
  }

  /** How many of `length` bytes at a guest address lie behind each other in our memory: 0 when the address is outside. */
  contiguous(guestAddress: number, length: number): number {
    const region = this.#regionOf(guestAddress);
    if (region === undefined) return 0;
    return Math.min(length, region.guestAddress + region.size - guestAddress);
  }

  /** Our address of a guest address that `contiguous` has found. */
  address(guestAddress: number): number {
    const region = this.#regionOf(guestAddress) as MappedRegion;
    return region.mapping.address + (guestAddress - region.guestAddress);
  }

  /** Our address of `length` bytes at an address of the frontend's own, or undefined when they are not in one region. */
  addressOfUser(userAddress: number, length: number): number | undefined {
    for (const region of this.#regions) {
      const at = userAddress - region.userAddress;
      if (at >= 0 && at + length <= region.size) return region.mapping.address + at;
    }
    return undefined;
  }

  /** Copies guest memory at our address `theirs` to `ours`. Throws IoError when it is gone. */
  copyFrom(theirs: number, ours: number, length: number): void {
    if (this.#guarded === undefined) copyMemory(ours, theirs, length);
    else this.#guarded.from(theirs, ours, length);
  }

  /** Copies to guest memory at our address `theirs`. Throws IoError when it is gone. */
  copyTo(theirs: number, ours: number, length: number): void {
    if (this.#guarded === undefined) copyMemory(theirs, ours, length);
    else this.#guarded.to(theirs, ours, length);
  }

  /** Copies from a guest address, over as many regions as it takes. Throws IoError. */
  read(guestAddress: number, ours: number, length: number): void {
    for (let done = 0; done < length; ) {
      const piece = this.contiguous(guestAddress + done, length - done);
      if (piece === 0) throw new IoError(errno.EFAULT, { syscall: 'read', offset: guestAddress });
      this.copyFrom(this.address(guestAddress + done), ours + done, piece);
      done += piece;
    }
  }

  #regionOf(guestAddress: number): MappedRegion | undefined {
    const last = this.#last;
    if (last !== undefined && isInside(last, guestAddress)) return last;
    for (const region of this.#regions) {
      if (isInside(region, guestAddress)) {
        this.#last = region;
        return region;
      }
    }
    return undefined;
  }

  /** Has `kept` and these regions from now on, or what it had when that fails. */
  #extend(
    kept: readonly MappedRegion[],
    regions: readonly MemoryRegion[],
    fds: readonly number[],
  ): void {
    const added: MappedRegion[] = [];
    try {
      regions.forEach((region, index) => {
        checkOverlap(region, [...kept, ...added]);
        added.push(mapRegion(region, fds[index] as number));
      });
      this.#set([...kept, ...added]);
    } catch (error) {
      for (const { mapping } of added) unmapShared(mapping);
      throw error;
    }
  }

  /** Throws IoError, and then nothing has changed. */
  #set(regions: readonly MappedRegion[]): void {
    if (regions.every(({ mapping }) => mapping.lasting)) {
      this.#guarded?.close();
      this.#guarded = undefined;
    } else {
      this.#guarded ??= new GuardedCopy();
    }
    this.#last = undefined;
    this.#regions = regions;
  }
}

function isInside(region: MemoryRegion, guestAddress: number): boolean {
  return guestAddress >= region.guestAddress && guestAddress < region.guestAddress + region.size;
}

function mapRegion(region: MemoryRegion, fd: number): MappedRegion {
  return { ...region, mapping: mapShared(fd, region.offset, region.size) };
}

function checkOverlap(region: MemoryRegion, others: readonly MemoryRegion[]): void {
  const { guestAddress, size } = region;
  for (const other of others) {
    const apart =
      guestAddress >= other.guestAddress + other.size || other.guestAddress >= guestAddress + size;
    if (!apart) throw new ProtocolError('guest address', guestAddress, 'one of no other region');
  }
}
