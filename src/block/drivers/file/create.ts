// blockdev-create for `file`: makes a regular file of a given length, or empties one that is there and does so.

import { errno, strerror } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import type { MaybePromise } from '../../../base/io-buffer.ts';
import { QmpError } from '../../../qapi/errors.ts';
import type { BlockdevCreateOptionsFile } from '../../../qapi/generated/types.ts';
import { avoidCopyOnWrite, setExtentSizeHint } from '../../../sys/attributes.ts';
import { closeFile, isOneOf, O_CREAT, O_RDWR, openFile } from '../../../sys/file.ts';
import { PERM_ALL, PERM_RESIZE, PERM_WRITE } from '../../block-driver.ts';
import type { CreateContext } from '../../driver-context.ts';
import { FDSET, noSuchFdset } from './image-file.ts';
import { addLocks, checkLocks, noLocks } from './image-lock.ts';
import { setRegularLength } from './length.ts';

const MIB = 1024 * 1024;
const LARGEST_HINT = 2 ** 32 - 1;

/** All that needs no waiting is checked before the answer: then a failure comes at once. Throws or rejects QmpError. */
export function createFile(
  options: BlockdevCreateOptionsFile,
  context: CreateContext,
): MaybePromise<void> {
  if ((options['extent-size-hint'] ?? 0) > LARGEST_HINT) {
    throw new QmpError('Extent size hint is too large');
  }
  const fd = openNew(options.filename, context);
  try {
    lock(fd, options.filename);
  } catch (error) {
    closeFile(fd);
    throw error;
  }
  return shape(fd, options, context).finally(() => closeFile(fd));
}

function openNew(path: string, { servedFiles }: CreateContext): number {
  const flags = O_RDWR | O_CREAT;
  if (path.startsWith(FDSET)) throw noSuchFdset(path, flags);
  if (isOneOf(path, servedFiles)) {
    throw new QmpError(`Could not create '${path}': ${strerror(errno.EDEADLK)}`);
  }
  try {
    return openFile(path, flags);
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    throw new QmpError(`Could not create '${path}': ${error.reason}`, { cause: error });
  }
}

/** Everything in the file goes, and nobody else may resize it until it is done. The locks go with the descriptor. */
function lock(fd: number, path: string): void {
  addLocks(fd, noLocks(), PERM_WRITE | PERM_RESIZE, PERM_RESIZE);
  checkLocks(fd, PERM_WRITE | PERM_RESIZE, PERM_ALL & ~PERM_RESIZE, path);
}

async function shape(
  fd: number,
  options: BlockdevCreateOptionsFile,
  { log }: CreateContext,
): Promise<void> {
  await setRegularLength(fd, 0, 'off');
  // Both are wishes: a file system that knows nothing of them does not matter.
  if (options.nocow === true) avoidCopyOnWrite(fd);
  const hint = options['extent-size-hint'];
  const refusal = setExtentSizeHint(fd, hint ?? MIB);
  if (refusal !== undefined && hint !== undefined && hint !== 0) {
    log.warn(`Failed to set extent size hint: ${refusal.reason}`);
  }
  await setRegularLength(fd, options.size, options.preallocation ?? 'off');
}
