// What the kernel may ask for. A row states the facts: how long the arguments are at least, and what the reply looks like;
// session.ts enforces and encodes. A request without a row is answered with ENOSYS, which tells the kernel to do without.

import { errno } from '../../base/errno.ts';
import { IoError } from '../../base/errors.ts';
import type { IoBuffer, MaybePromise } from '../../base/io-buffer.ts';
import { OTHERS_WAIT } from '../../block/block-driver.ts';
import { allocateFile } from './fallocate.ts';
import type { FuseFile } from './fuse-file.ts';
import { seekInFile } from './lseek.ts';
import {
  FUSE_BATCH_FORGET,
  FUSE_DESTROY,
  FUSE_FALLOCATE,
  FUSE_FLUSH,
  FUSE_FORGET,
  FUSE_FSYNC,
  FUSE_GETATTR,
  FUSE_INTERRUPT,
  FUSE_LOOKUP,
  FUSE_LSEEK,
  FUSE_OPEN,
  FUSE_READ,
  FUSE_RELEASE,
  FUSE_SETATTR,
  FUSE_STATFS,
  FUSE_WRITE,
  IN_HEADER_SIZE,
  WRITE_IN_SIZE,
} from './protocol.ts';
import { setAttributes } from './setattr.ts';
import { readFile, writeFile } from './transfer.ts';
import {
  decodeFallocate,
  decodeLseek,
  decodeSetattr,
  decodeTransfer,
  decodeWrite,
  type FuseRequest,
} from './wire.ts';

/** Where data begin in a buffer, of a request or of a reply: on a page, so that direct I/O can be done from there. */
export const DATA_AT = 4096;

/** Where a request is received: its header and the arguments of a write end where its data begin. */
export const REQUEST_AT = DATA_AT - IN_HEADER_SIZE - WRITE_IN_SIZE;

const ARGUMENTS_AT = REQUEST_AT + IN_HEADER_SIZE;

/** What a request is carried out with. */
export interface Work {
  readonly file: FuseFile;
  readonly request: FuseRequest;
  /** The request as it was received, at REQUEST_AT. */
  readonly input: IoBuffer;
  /** Takes the data that are read, at DATA_AT. */
  readonly output: IoBuffer;
  /** There are more requests, or may be. */
  readonly othersWait: boolean;
}

/** What stands behind the header of a reply that is no error; `count` bytes are what run() answers. */
export type ReplyKind = 'empty' | 'attributes' | 'open' | 'written' | 'place' | 'data' | 'statfs';

export interface OperationRow {
  readonly name: string;
  /** Bytes of arguments, at least. */
  readonly arguments: number;
  /** `any`: it need not be about the file. */
  readonly node?: 'any';
  /** `none`: the kernel wants no reply. */
  readonly reply: ReplyKind | 'none';
  /** Uses `input` until it is done. */
  readonly keepsInput?: true;
  /** Decodes the arguments, `length` bytes, into the request. Throws ProtocolError. */
  decode?(view: DataView, at: number, request: FuseRequest, length: number): void;
  /** Carries a decoded request out; `work` is valid during the call only. Throws or rejects IoError. */
  run(work: Work): MaybePromise<number | void>;
}

const nothing = (): void => {};
const flush = ({ file }: Work): MaybePromise<void> => file.backend.flush();

export const operations = {
  [FUSE_LOOKUP]: {
    name: 'FUSE_LOOKUP',
    arguments: 0,
    reply: 'empty',
    run() {
      // A file has nothing in it.
      throw new IoError(errno.ENOENT, { syscall: 'lookup' });
    },
  },
  [FUSE_FORGET]: { name: 'FUSE_FORGET', arguments: 0, reply: 'none', run: nothing },
  [FUSE_BATCH_FORGET]: { name: 'FUSE_BATCH_FORGET', arguments: 0, reply: 'none', run: nothing },
  [FUSE_GETATTR]: { name: 'FUSE_GETATTR', arguments: 0, reply: 'attributes', run: nothing },
  [FUSE_SETATTR]: {
    name: 'FUSE_SETATTR',
    arguments: 88,
    reply: 'attributes',
    run: ({ file, input }) => setAttributes(file, decodeSetattr(input.view, ARGUMENTS_AT)),
  },
  [FUSE_OPEN]: { name: 'FUSE_OPEN', arguments: 8, reply: 'open', run: nothing },
  [FUSE_READ]: {
    name: 'FUSE_READ',
    arguments: 40,
    reply: 'data',
    decode: decodeTransfer,
    run: ({ file, request, output }) => readFile(file, request, output, DATA_AT),
  },
  [FUSE_WRITE]: {
    name: 'FUSE_WRITE',
    arguments: WRITE_IN_SIZE,
    reply: 'written',
    keepsInput: true,
    decode: decodeWrite,
    run: ({ file, request, input, othersWait }) =>
      writeFile(file, request, { from: input, at: DATA_AT, flags: othersWait ? OTHERS_WAIT : 0 }),
  },
  [FUSE_STATFS]: {
    name: 'FUSE_STATFS',
    arguments: 0,
    node: 'any',
    reply: 'statfs',
    run: nothing,
  },
  [FUSE_RELEASE]: { name: 'FUSE_RELEASE', arguments: 24, reply: 'empty', run: nothing },
  [FUSE_FSYNC]: { name: 'FUSE_FSYNC', arguments: 16, reply: 'empty', run: flush },
  // A descriptor is closed: the last chance to tell it that a write has failed.
  [FUSE_FLUSH]: { name: 'FUSE_FLUSH', arguments: 24, reply: 'empty', run: flush },
  // As in every file system, reads and writes of a file are not cut short by a signal: they end by themselves.
  [FUSE_INTERRUPT]: { name: 'FUSE_INTERRUPT', arguments: 8, reply: 'none', run: nothing },
  [FUSE_DESTROY]: {
    name: 'FUSE_DESTROY',
    arguments: 0,
    node: 'any',
    reply: 'empty',
    run: nothing,
  },
  [FUSE_FALLOCATE]: {
    name: 'FUSE_FALLOCATE',
    arguments: 32,
    reply: 'empty',
    decode: decodeFallocate,
    run: ({ file, request }) => allocateFile(file, request),
  },
  [FUSE_LSEEK]: {
    name: 'FUSE_LSEEK',
    arguments: 24,
    reply: 'place',
    decode: decodeLseek,
    run: ({ file, request }) => seekInFile(file, request),
  },
} as const satisfies Readonly<Record<number, OperationRow>>;

const rows: readonly (OperationRow | undefined)[] = Array.from(
  { length: FUSE_LSEEK + 1 },
  (_, opcode) => (operations as Readonly<Record<number, OperationRow>>)[opcode],
);

/** The row of a request, or undefined for one that is not served. */
export function rowOf(opcode: number): OperationRow | undefined {
  return rows[opcode];
}

/** For logs and traces. */
export function nameOfOperation(opcode: number): string {
  return rowOf(opcode)?.name ?? `FUSE request ${opcode}`;
}
