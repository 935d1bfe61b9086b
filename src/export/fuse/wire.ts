// FUSE structures, bytes to values and back, in the byte order of the machine (little-endian on every target). No descriptors,
// no policy. Numbers of 64 bits are made of two reads: inexact above 2^53, where no offset of ours is, but in order.

import { ProtocolError } from '../../base/errors.ts';
import {
  FUSE_KERNEL_MINOR_VERSION,
  FUSE_KERNEL_VERSION,
  IN_HEADER_SIZE,
  OUT_HEADER_SIZE,
  WRITE_IN_SIZE,
} from './protocol.ts';

/** A request's header, and what of its arguments is read. One record serves many requests. */
export interface FuseRequest {
  opcode: number;
  /** What the reply must repeat, in two halves. */
  uniqueLow: number;
  uniqueHigh: number;
  /** Which node is meant; 0 where none is. */
  node: number;
  /** Bytes and place of READ, WRITE, FALLOCATE and LSEEK. */
  offset: number;
  length: number;
  /** FALLOCATE's mode, LSEEK's whence. */
  mode: number;
}

export function newRequest(): FuseRequest {
  return { opcode: 0, uniqueLow: 0, uniqueHigh: 0, node: 0, offset: 0, length: 0, mode: 0 };
}

// struct fuse_in_header
//   [ 0 ..  3]  len           of the whole request
//   [ 4 ..  7]  opcode
//   [ 8 .. 15]  unique
//   [16 .. 23]  nodeid
//   [24 .. 27]  uid           [28 .. 31]  gid           [32 .. 35]  pid
//   [36 .. 37]  total_extlen  [38 .. 39]  padding
/** Decodes what stands at `at`, of which `received` bytes are there. Throws ProtocolError. */
export function decodeHeader(
  view: DataView,
  at: number,
  received: number,
  into: FuseRequest,
): void {
  if (received < IN_HEADER_SIZE) {
    throw new ProtocolError('request header', `${received} bytes`, `${IN_HEADER_SIZE} bytes`);
  }
  into.opcode = view.getUint32(at + 4, true);
  into.uniqueLow = view.getUint32(at + 8, true);
  into.uniqueHigh = view.getUint32(at + 12, true);
  into.node = u64(view, at + 16);
  const length = view.getUint32(at, true);
  if (length !== received) {
    throw new ProtocolError('request length', `${length} bytes`, `${received} bytes`);
  }
}

// struct fuse_read_in and struct fuse_write_in, both 40 bytes
//   [ 0 ..  7]  fh      [ 8 .. 15]  offset       [16 .. 19]  size
//   [20 .. 23]  flags of the request             [24 .. 31]  lock_owner
//   [32 .. 35]  flags of open                    [36 .. 39]  padding
export function decodeTransfer(view: DataView, at: number, into: FuseRequest): void {
  into.offset = u64(view, at + 8);
  into.length = view.getUint32(at + 16, true);
}

/** The same, its data behind it. `received` is the length of all arguments. Throws ProtocolError. */
export function decodeWrite(view: DataView, at: number, into: FuseRequest, received: number): void {
  decodeTransfer(view, at, into);
  if (into.length !== received - WRITE_IN_SIZE) {
    const there = received - WRITE_IN_SIZE;
    throw new ProtocolError('write size', `${into.length} bytes`, `${there} bytes`);
  }
}

// struct fuse_fallocate_in
//   [ 0 ..  7]  fh      [ 8 .. 15]  offset       [16 .. 23]  length
//   [24 .. 27]  mode    [28 .. 31]  padding
export function decodeFallocate(view: DataView, at: number, into: FuseRequest): void {
  into.offset = u64(view, at + 8);
  into.length = u64(view, at + 16);
  into.mode = view.getUint32(at + 24, true);
}

// struct fuse_lseek_in
//   [ 0 ..  7]  fh      [ 8 .. 15]  offset
//   [16 .. 19]  whence  [20 .. 23]  padding
export function decodeLseek(view: DataView, at: number, into: FuseRequest): void {
  into.offset = u64(view, at + 8);
  into.mode = view.getUint32(at + 16, true);
}

/** What FUSE_SETATTR asks for; of the values only those that `valid` names count. */
export interface SetattrRequest {
  readonly valid: number;
  readonly size: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

// struct fuse_setattr_in
//   [ 0 ..  3]  valid (FATTR_*)  [ 4 ..  7]  padding
//   [ 8 .. 15]  fh               [16 .. 23]  size     [24 .. 31]  lock_owner
//   [32 .. 39]  atime            [40 .. 47]  mtime    [48 .. 55]  ctime
//   [56 .. 67]  their nanoseconds
//   [68 .. 71]  mode             [72 .. 75]  unused
//   [76 .. 79]  uid              [80 .. 83]  gid      [84 .. 87]  unused
export function decodeSetattr(view: DataView, at: number): SetattrRequest {
  return {
    valid: view.getUint32(at, true),
    size: u64(view, at + 16),
    mode: view.getUint32(at + 68, true),
    uid: view.getUint32(at + 76, true),
    gid: view.getUint32(at + 80, true),
  };
}

export interface InitRequest {
  readonly major: number;
  readonly minor: number;
  readonly maxReadahead: number;
  /** FUSE_* flags that the kernel knows. */
  readonly flags: number;
}

// struct fuse_init_in; newer kernels send more
//   [ 0 ..  3]  major          [ 4 ..  7]  minor
//   [ 8 .. 11]  max_readahead  [12 .. 15]  flags
/** Of `length` bytes. Throws ProtocolError. */
export function decodeInit(view: DataView, at: number, length: number): InitRequest {
  if (length < 16) throw new ProtocolError('FUSE_INIT', `${length} bytes`, '16 bytes');
  return {
    major: view.getUint32(at, true),
    minor: view.getUint32(at + 4, true),
    maxReadahead: view.getUint32(at + 8, true),
    flags: view.getUint32(at + 12, true),
  };
}

// struct fuse_out_header
//   [ 0 ..  3]  len, of the whole reply  [ 4 ..  7]  error, 0 or a negative errno  [ 8 .. 15]  unique
/** Of a reply with `length` bytes behind it; `error` is 0 or a positive errno. */
export function encodeHeader(
  view: DataView,
  at: number,
  request: FuseRequest,
  length: number,
  error: number,
): void {
  view.setUint32(at, OUT_HEADER_SIZE + length, true);
  view.setInt32(at + 4, -error, true);
  view.setUint32(at + 8, request.uniqueLow, true);
  view.setUint32(at + 12, request.uniqueHigh, true);
}

/** What stat(2) tells. Sizes in bytes, times in seconds. */
export interface FuseAttributes {
  readonly size: number;
  /** Of 512 bytes. */
  readonly blocks: number;
  readonly time: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly blockSize: number;
}

// struct fuse_attr_out
//   [ 0 ..  7]  attr_valid, seconds  [ 8 .. 11]  and nanoseconds      [12 .. 15]  dummy
//   [16 .. 23]  ino                  [24 .. 31]  size                 [32 .. 39]  blocks
//   [40 .. 47]  atime                [48 .. 55]  mtime                [56 .. 63]  ctime
//   [64 .. 75]  their nanoseconds
//   [76 .. 79]  mode                 [80 .. 83]  nlink
//   [84 .. 87]  uid                  [88 .. 91]  gid                  [92 .. 95]  rdev
//   [96 .. 99]  blksize              [100 .. 103]  flags
/** `node` is the inode's number, `valid` for how many seconds the kernel may keep the answer. */
export function encodeAttributes(
  view: DataView,
  at: number,
  attributes: FuseAttributes,
  { node, valid }: { readonly node: number; readonly valid: number },
): void {
  setU64(view, at, valid);
  setU64(view, at + 8, 0);
  setU64(view, at + 16, node);
  setU64(view, at + 24, attributes.size);
  setU64(view, at + 32, attributes.blocks);
  setU64(view, at + 40, attributes.time);
  setU64(view, at + 48, attributes.time);
  setU64(view, at + 56, attributes.time);
  setU64(view, at + 64, 0);
  view.setUint32(at + 72, 0, true);
  view.setUint32(at + 76, attributes.mode, true);
  view.setUint32(at + 80, 1, true);
  view.setUint32(at + 84, attributes.uid, true);
  view.setUint32(at + 88, attributes.gid, true);
  view.setUint32(at + 92, 0, true);
  view.setUint32(at + 96, attributes.blockSize, true);
  view.setUint32(at + 100, 0, true);
}

// struct fuse_open_out
//   [ 0 ..  7]  fh  [ 8 .. 11]  open_flags  [12 .. 15]  padding
export function encodeOpen(view: DataView, at: number): void {
  setU64(view, at, 0);
  setU64(view, at + 8, 0);
}

// struct fuse_write_out
//   [ 0 ..  3]  size  [ 4 ..  7]  padding
export function encodeWrite(view: DataView, at: number, written: number): void {
  setU64(view, at, written);
}

// struct fuse_lseek_out
//   [ 0 ..  7]  offset
export function encodeLseek(view: DataView, at: number, offset: number): void {
  setU64(view, at, offset);
}

// struct fuse_kstatfs
//   [ 0 ..  7]  blocks   [ 8 .. 15]  bfree    [16 .. 23]  bavail
//   [24 .. 31]  files    [32 .. 39]  ffree
//   [40 .. 43]  bsize    [44 .. 47]  namelen  [48 .. 51]  frsize  [52 .. 79]  padding and spare
export function encodeStatfs(
  view: DataView,
  at: number,
  { blockSize, nameLength }: { readonly blockSize: number; readonly nameLength: number },
): void {
  for (let place = 0; place < 80; place += 8) setU64(view, at + place, 0);
  view.setUint32(at + 40, blockSize, true);
  view.setUint32(at + 44, nameLength, true);
}

export interface InitReply {
  readonly maxReadahead: number;
  readonly flags: number;
  /** Requests that the kernel may send ahead, and how many of them make it hold back. */
  readonly maxBackground: number;
  readonly congestionThreshold: number;
  readonly maxWrite: number;
  readonly maxPages: number;
}

// struct fuse_init_out
//   [ 0 ..  3]  major           [ 4 ..  7]  minor
//   [ 8 .. 11]  max_readahead   [12 .. 15]  flags
//   [16 .. 17]  max_background  [18 .. 19]  congestion_threshold
//   [20 .. 23]  max_write       [24 .. 27]  time_gran, nanoseconds
//   [28 .. 29]  max_pages       [30 .. 31]  map_alignment
//   [32 .. 63]  flags2 and unused
export function encodeInit(view: DataView, at: number, reply: InitReply): void {
  view.setUint32(at, FUSE_KERNEL_VERSION, true);
  view.setUint32(at + 4, FUSE_KERNEL_MINOR_VERSION, true);
  view.setUint32(at + 8, reply.maxReadahead, true);
  view.setUint32(at + 12, reply.flags, true);
  view.setUint16(at + 16, reply.maxBackground, true);
  view.setUint16(at + 18, reply.congestionThreshold, true);
  view.setUint32(at + 20, reply.maxWrite, true);
  view.setUint32(at + 24, 1, true);
  view.setUint16(at + 28, reply.maxPages, true);
  view.setUint16(at + 30, 0, true);
  for (let place = 32; place < 64; place += 8) setU64(view, at + place, 0);
}

function u64(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true);
}

function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 0x1_0000_0000, true);
  view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
}
