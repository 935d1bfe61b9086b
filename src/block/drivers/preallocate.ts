// The filter `preallocate`: where a write goes beyond the end of the file below, much more of the file is allocated at once,
// as zeroes, so that later writes need no new space. Users see the length without it; it is cut off when the last one that
// writes goes. While somebody may write and resize, nobody else may, so the books kept here are right.

import { IoError } from '../../base/errors.ts';
import { QmpError } from '../../qapi/errors.ts';
import type { BlockdevOptionsPreallocate } from '../../qapi/generated/types.ts';
import {
  type BlockDriver,
  PERM_RESIZE,
  PERM_WRITE,
  type Permissions,
  type TruncateOptions,
} from '../block-driver.ts';
import { type BlockNode, SECTOR } from '../block-node.ts';
import { filteredChild, openFiltered, passFlags, passThrough } from '../filter.ts';
import { writeZeroesAlone } from '../io.ts';
import { alignedUp } from '../io-driver.ts';
import { truncate } from '../io-truncate.ts';
import { checkSize } from '../size-option.ts';

const MIB = 1024 * 1024;

interface Settings {
  /** The end of what is allocated is a multiple of it; bytes. */
  readonly align: number;
  /** How much is allocated beyond the end of a write; bytes. */
  readonly size: number;
}

/** Ends of the file, in bytes. */
interface Books {
  /** What users see. */
  dataEnd: number;
  /** From here to `fileEnd` the file is allocated and reads as zeroes. */
  zeroStart: number;
  /** Where the file really ends; undefined when that is not known after a failure. */
  fileEnd: number | undefined;
}

export interface PreallocateState {
  settings: Settings;
  /** Only while somebody writes and resizes. */
  books: Books | undefined;
  /** Allocating, or cutting off: one at a time. */
  busy: Promise<void> | undefined;
}

type PreallocateNode = BlockNode<PreallocateState>;

const WRITES_AND_RESIZES = PERM_WRITE | PERM_RESIZE;
const exactly: TruncateOptions = { exact: true, prealloc: 'off', flags: 0 };

export const preallocate: BlockDriver<PreallocateState, BlockdevOptionsPreallocate> = {
  name: 'preallocate',
  kind: 'filter',
  variableLength: true,
  strongOptions: [],

  async open(node, options, context) {
    const file = await openFiltered(options, context);
    const settings = settingsFrom(options, file.node);
    passFlags(node);
    return { settings, books: undefined, busy: undefined };
  },
  close: (node) => node.state.busy,
  changeableOptions: ['prealloc-align', 'prealloc-size'],
  reopen(node, options) {
    const settings = settingsFrom(options, filteredChild(node).node);
    return {
      commit() {
        node.state.settings = settings;
      },
    };
  },

  async inactivate(node) {
    const { books, busy } = node.state;
    await busy;
    if (books !== undefined) await oneAtATime(node, () => cutOff(node, books));
  },
  activate(node) {
    if (node.state.books !== undefined) node.state.books = newBooks(node);
  },

  length(node) {
    return node.state.books?.dataEnd ?? passThrough.length(node);
  },
  read: passThrough.read,
  discard: passThrough.discard,
  write(node, offset, length, from, at, flags) {
    const file = filteredChild(node);
    const made = makeRoom(node, { offset, length, zeroes: false });
    if (made === undefined) return file.write(offset, length, from, at, flags);
    return made.then(() => file.write(offset, length, from, at, flags));
  },
  writeZeroes(node, offset, length, flags) {
    const file = filteredChild(node);
    const made = makeRoom(node, { offset, length, zeroes: flags === 0 });
    if (made === undefined) return file.writeZeroes(offset, length, flags);
    return made.then((areZero) => (areZero ? undefined : file.writeZeroes(offset, length, flags)));
  },
  truncate: resize,

  childPermissions(_node, _role, { perm, shared }) {
    if (!writesAndResizes(perm)) return { perm, shared };
    return { perm, shared: shared & ~WRITES_AND_RESIZES };
  },
  setPermissions(node, perm) {
    const state: PreallocateState | undefined = node.state;
    // Its own child is attached while it opens.
    if (state === undefined) return;
    const { books } = state;
    if (writesAndResizes(perm)) {
      if (books === undefined && state.busy === undefined) state.books = newBooks(node);
    } else if (books !== undefined) {
      void oneAtATime(node, () => cutOff(node, books)).catch(() => {});
    }
  },
};

interface Write {
  readonly offset: number;
  readonly length: number;
  /** It writes zeroes, and nothing but zeroes. */
  readonly zeroes: boolean;
}

/**
 * Before a write: allocates if it goes beyond the end. Nothing when it does not, else whether the area is zeroes already.
 * A failure to allocate is none: the write goes on without.
 */
function makeRoom(node: PreallocateNode, write: Write): Promise<boolean> | undefined {
  const { books, busy } = node.state;
  const end = write.offset + write.length;
  // What users see may end with zeroes that were allocated: not where they write something else over them.
  if (books !== undefined && !write.zeroes) books.zeroStart = Math.max(books.zeroStart, end);
  if (busy === undefined && (books === undefined || end <= books.dataEnd)) return undefined;
  return makeRoomInTurn(node, write, end);
}

async function makeRoomInTurn(node: PreallocateNode, write: Write, end: number): Promise<boolean> {
  const { state } = node;
  while (state.busy !== undefined) await state.busy.catch(() => {});
  const { books } = state;
  if (books === undefined || end <= books.dataEnd) return false;
  books.dataEnd = end;
  if (!write.zeroes) books.zeroStart = end;
  const fileEnd = books.fileEnd ?? filteredChild(node).node.length;
  books.fileEnd = fileEnd;
  if (end <= fileEnd) return write.zeroes && write.offset >= books.zeroStart;
  let areZero = false;
  await oneAtATime(node, async () => {
    areZero = await allocate(node, books, write);
  });
  return areZero;
}

async function allocate(node: PreallocateNode, books: Books, write: Write): Promise<boolean> {
  const { node: file } = filteredChild(node);
  const { settings } = node.state;
  const { requestAlignment } = file.limits;
  const fileEnd = books.fileEnd ?? file.length;
  const start = alignedUp(
    write.zeroes ? Math.min(write.offset, fileEnd) : fileEnd,
    requestAlignment,
  );
  const end = alignedUp(
    Math.max(start, write.offset + write.length) + settings.size,
    Math.max(settings.align, requestAlignment),
  );
  try {
    await writeZeroesAlone(file, start, end - start);
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    books.fileEnd = undefined;
    return false;
  }
  books.fileEnd = end;
  return write.zeroes && start <= write.offset;
}

/** The last user that wrote and resized has gone, or may do so no more. */
async function cutOff(node: PreallocateNode, books: Books): Promise<void> {
  const { node: file } = filteredChild(node);
  try {
    if (books.dataEnd < (books.fileEnd ?? file.length))
      await truncate(file, books.dataEnd, exactly);
  } finally {
    node.state.books = writesAndResizes(node.perm) ? newBooks(node) : undefined;
  }
}

async function resize(
  node: PreallocateNode,
  length: number,
  options: TruncateOptions,
): Promise<void> {
  const { state } = node;
  while (state.busy !== undefined) await state.busy.catch(() => {});
  await oneAtATime(node, () => resizeNow(node, length, options));
}

async function resizeNow(
  node: PreallocateNode,
  length: number,
  options: TruncateOptions,
): Promise<void> {
  const { node: file } = filteredChild(node);
  const { books } = node.state;
  if (books !== undefined && length > books.dataEnd) {
    const fileEnd = books.fileEnd ?? file.length;
    if (options.prealloc === 'falloc' && length <= fileEnd) {
      books.dataEnd = length;
      return;
    }
    // What is allocated must not be taken for what the user wants allocated.
    if (options.prealloc !== 'falloc' && fileEnd > books.dataEnd) {
      books.fileEnd = undefined;
      await dropped(file, books.dataEnd);
    }
  }
  try {
    await truncate(file, length, options);
  } finally {
    if (books !== undefined) node.state.books = newBooks(node);
  }
}

async function dropped(file: BlockNode, length: number): Promise<void> {
  try {
    await truncate(file, length, exactly);
  } catch (error) {
    if (!(error instanceof QmpError)) throw error;
    throw new QmpError(
      `preallocate-filter: failed to drop write-zero preallocation: ${error.desc}`,
      { cause: error },
    );
  }
}

/** Runs `work` while nobody else changes the end of the file; counts as in flight. */
async function oneAtATime(node: PreallocateNode, work: () => Promise<void>): Promise<void> {
  const { state } = node;
  node.requests.enter();
  const running = work();
  state.busy = running;
  try {
    await running;
  } finally {
    if (state.busy === running) state.busy = undefined;
    node.requests.leave();
  }
}

function newBooks(node: BlockNode): Books {
  const end = passThrough.length(node);
  return { dataEnd: end, zeroStart: end, fileEnd: end };
}

function writesAndResizes(perm: Permissions): boolean {
  return (perm & WRITES_AND_RESIZES) === WRITES_AND_RESIZES;
}

/** Throws QmpError. */
function settingsFrom(options: BlockdevOptionsPreallocate, below: BlockNode): Settings {
  const { 'prealloc-align': align = MIB, 'prealloc-size': size = 128 * MIB } = options;
  checkSize('prealloc-align', align);
  checkSize('prealloc-size', size);
  if (align % SECTOR !== 0) {
    throw new QmpError(
      `prealloc-align parameter of preallocate filter is not aligned to ${SECTOR}`,
    );
  }
  const { requestAlignment } = below.limits;
  if (align % requestAlignment !== 0) {
    throw new QmpError(
      'prealloc-align parameter of preallocate filter is not aligned to underlying node request ' +
        `alignment (${requestAlignment})`,
    );
  }
  return { align, size };
}
