// blockdev-create for `qcow2`: an empty image with a header, a refcount table and one block, which then is opened and made as
// large as it shall be.

import { errno, strerror } from '../../../base/errno.ts';
import type { MaybePromise } from '../../../base/io-buffer.ts';
import { QmpError } from '../../../qapi/errors.ts';
import type { BlockdevCreateOptionsQcow2 } from '../../../qapi/generated/types.ts';
import type { BlockBackend } from '../../block-backend.ts';
import {
  PERM_ALL,
  PERM_CONSISTENT_READ,
  PERM_RESIZE,
  PERM_WRITE,
  type PermissionPair,
} from '../../block-driver.ts';
import type { CreateContext } from '../../driver-context.ts';
import { filenameOf } from '../../filename.ts';
import {
  checkCompressionType,
  checkLayout,
  encodeNewHeader,
  type NewImage,
} from './create-options.ts';
import { MAX_BACKING_NAME } from './header.ts';
import { keptFormatName } from './header-extensions.ts';
import { rewriteHeader } from './header-rewrite.ts';
import type { Qcow2Image } from './image.ts';
import { putU64 } from './l1-l2.ts';
import { blockOffset, setRefcount } from './refcount-block.ts';
import { saying } from './saying.ts';

/** Header, refcount table, refcount block. */
const FIRST_CLUSTERS = 3;
/** It must stay, whoever uses it. */
const HOLD: PermissionPair = { perm: 0, shared: PERM_ALL };
const FORMAT: PermissionPair = { perm: PERM_WRITE | PERM_RESIZE, shared: PERM_ALL };
const RESIZE: PermissionPair = {
  perm: PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE,
  shared: PERM_ALL,
};

/** All that needs no waiting is checked before the answer: then a failure comes at once. Throws or rejects QmpError. */
export function createImage(
  options: BlockdevCreateOptionsQcow2,
  context: CreateContext,
): MaybePromise<void> {
  const { file, 'data-file': dataFile } = options;
  if (typeof file !== 'string') return create(options, context, context.openBackend(file, HOLD));
  context.find(file);
  const wish = checkLayout(options);
  if (typeof dataFile === 'string') context.find(dataFile);
  if (typeof dataFile !== 'object') checkCompressionType(wish);
  const pair = typeof dataFile === 'object' ? HOLD : FORMAT;
  return create(options, context, context.openBackend(file, pair));
}

async function create(
  options: BlockdevCreateOptionsQcow2,
  context: CreateContext,
  opened: MaybePromise<BlockBackend>,
): Promise<void> {
  const file = await opened;
  const held = [file];
  try {
    const wish = checkLayout(options);
    let dataFile: BlockBackend | undefined;
    if (options['data-file'] !== undefined) {
      dataFile = await context.openBackend(options['data-file'], HOLD);
      held.push(dataFile);
    }
    checkCompressionType(wish);
    file.setPermissions(FORMAT.perm, FORMAT.shared);
    await format(file, wish, context);
    file.setPermissions(HOLD.perm, HOLD.shared);
    const image = await context.openBackend(
      {
        driver: 'qcow2',
        file: file.node.nodeName,
        ...(dataFile === undefined ? {} : { 'data-file': dataFile.node.nodeName }),
      },
      RESIZE,
    );
    held.push(image);
    await complete(image, wish, dataFile);
  } finally {
    for (const one of held.toReversed()) await one.release();
  }
}

/** Writes a header without a disk, and refcount structures that count nothing yet. */
async function format(file: BlockBackend, wish: NewImage, context: CreateContext): Promise<void> {
  const { clusterSize } = wish;
  file.writesBeyondEnd = true;
  const tables = context.allocate(2 * clusterSize);
  encodeNewHeader(wish, tables.view);
  await saying('Could not write qcow2 header', () => file.write(0, clusterSize, tables, 0));
  tables.bytes.fill(0);
  putU64(tables.view, 0, 2 * clusterSize);
  await saying('Could not write refcount table', () =>
    file.write(clusterSize, 2 * clusterSize, tables, 0),
  );
}

/** Counts what is there, and makes the image what it shall be. */
async function complete(
  backend: BlockBackend,
  wish: NewImage,
  dataFile: BlockBackend | undefined,
): Promise<void> {
  const image = backend.node.state as Qcow2Image;
  await image.lock.run(async () => {
    await saying('Could not allocate clusters for qcow2 header and refcount table', () =>
      countFirst(image),
    );
    if (dataFile !== undefined) image.dataFilename = filenameOf(dataFile.node);
    await saying('Could not update qcow2 header', () => rewriteHeader(image));
  });
  try {
    await backend.truncate(wish.size, { exact: false, prealloc: wish.preallocation, flags: 0 });
  } catch (error) {
    if (!(error instanceof QmpError)) throw error;
    throw new QmpError(`Could not resize image: ${error.desc}`, { cause: error });
  }
  if (wish.backingFile !== undefined) await setBacking(image, wish.backingFile, wish.backingFormat);
  await backend.flush();
}

/** The header, the refcount table and its block are in use. */
async function countFirst(image: Qcow2Image): Promise<void> {
  const block = await image.refcountCache.get(blockOffset(image, 0));
  for (let cluster = 0; cluster < FIRST_CLUSTERS; cluster++) {
    setRefcount(block.view, cluster, image.geometry.refcountOrder, 1);
  }
  image.refcountCache.markDirty(block);
}

async function setBacking(
  image: Qcow2Image,
  name: string,
  format: string | undefined,
): Promise<void> {
  const what = `Could not assign backing file '${name}' with format '${format ?? '(null)'}'`;
  if (Buffer.byteLength(name) > MAX_BACKING_NAME) {
    throw new QmpError(`${what}: ${strerror(errno.EINVAL)}`);
  }
  image.backingFilename = name;
  image.backingFormat = format === undefined ? undefined : keptFormatName(format);
  await image.lock.run(() => saying(what, () => rewriteHeader(image)));
}
