// Opening an image: header, tables, caches, then the nodes that it names. The checks come in the reference's order.

import { IoError } from '../../../base/errors.ts';
import type { IoBuffer, MaybePromise } from '../../../base/io-buffer.ts';
import { Mutex } from '../../../base/mutex.ts';
import { QmpError } from '../../../qapi/errors.ts';
import type { BlockdevOptionsQcow2 } from '../../../qapi/generated/types.ts';
import type { BlockChild } from '../../block-child.ts';
import { CHILD_IMAGE, MAY_UNMAP, NO_FALLBACK } from '../../block-driver.ts';
import { SECTOR } from '../../block-node.ts';
import type { OpenContext } from '../../driver-context.ts';
import { readBitmapList } from './bitmap-list.ts';
import { loadBitmaps } from './bitmaps.ts';
import { cacheSizes } from './cache-sizes.ts';
import { cleanEvery, makeCaches } from './caches.ts';
import { openBacking, openDataFile } from './children.ts';
import { closeImage } from './close.ts';
import { INCOMPAT_DATA_FILE } from './features.ts';
import { decodeHeader, HEADER_LENGTH, type Header } from './header.ts';
import {
  backingName,
  checkFeatures,
  checkHeader,
  checkTables,
  extensionsOf,
  knownCodec,
  layoutOf,
} from './header-checks.ts';
import type { Qcow2Image, Qcow2Node } from './image.ts';
import { loadInactiveTables } from './inactive-tables.ts';
import { emptyEntry } from './l1-l2.ts';
import { emptyMapping } from './mapping.ts';
import { prepareToWrite, warnOfStaleBitmaps } from './open-for-writing.ts';
import { imageSettings } from './options.ts';
import { readSnapshots } from './snapshot.ts';

/** Opens the image that `options.file` holds. Throws QmpError with the reference's text. */
export async function openImage(
  node: Qcow2Node,
  options: BlockdevOptionsQcow2,
  context: OpenContext,
): Promise<Qcow2Image> {
  const file = await context.openChild('file', options.file, CHILD_IMAGE);
  const { image, cleanInterval } = await readImage({
    node,
    options,
    context,
    file,
    dataFileOf: (header, name) =>
      openDataFile({ node, file, option: options['data-file'], context, header, name }),
  });
  try {
    await openBacking(image, options.backing, context);
  } catch (error) {
    // The image says of its bitmaps that they are in use: that they are not any more has to be written, too.
    await closeImage(image).catch((later: unknown) => {
      context.log.error(`Failed to close node '${node.nodeName}': ${String(later)}`);
    });
    throw error;
  }
  cleanEvery(image, cleanInterval);
  return image;
}

/**
 * The image of a node that is open, as it is now: others may have changed all of it. The nodes it stands on stay. Throws QmpError;
 * nothing has changed then.
 */
export async function reopenedImage(node: Qcow2Node): Promise<Qcow2Image> {
  const old = node.state;
  const { file, dataFile, automaticBacking } = old;
  const before = [...node.dirtyBitmaps];
  try {
    const { image, cleanInterval } = await readImage({
      node,
      options: node.options as unknown as BlockdevOptionsQcow2,
      context: old,
      file,
      dataFileOf(header) {
        const external = (header.incompatible & INCOMPAT_DATA_FILE) !== 0n;
        if (external === (dataFile !== file)) return dataFile;
        throw new QmpError('Image has another kind of data file than before');
      },
    });
    // The backing file in use is another matter than what the header says by now.
    if (image.backingFilename === old.backingFilename) image.automaticBacking = automaticBacking;
    clearInterval(old.cleanTimer);
    cleanEvery(image, cleanInterval);
    return image;
  } catch (error) {
    node.dirtyBitmaps.splice(0, node.dirtyBitmaps.length, ...before);
    throw error;
  }
}

interface ImageSource {
  readonly node: Qcow2Node;
  readonly options: BlockdevOptionsQcow2;
  readonly context: Pick<OpenContext, 'allocate' | 'log' | 'events'>;
  readonly file: BlockChild;
  /** The child that has the data; the name is the header's. */
  readonly dataFileOf: (header: Header, name: string | undefined) => MaybePromise<BlockChild>;
}

/** Reads what the header says and makes it ready for use, but for the backing file. Throws QmpError. */
async function readImage({
  node,
  options,
  context,
  file,
  dataFileOf,
}: ImageSource): Promise<{ readonly image: Qcow2Image; readonly cleanInterval: number }> {
  const start = context.allocate(HEADER_LENGTH);
  await readAt(file, { offset: 0, length: HEADER_LENGTH, into: start, what: 'qcow2 header' });
  const header = decodeHeader(start.view);
  const codec = knownCodec(header);
  const firstCluster = await readFirstCluster(file, header, context);
  checkFeatures(node, header, firstCluster);
  checkHeader(header);
  const layout = layoutOf(header);
  const sizes = cacheSizes(options, header, layout);
  const settings = imageSettings(options, { ...header, unmap: node.unmap });
  checkTables(header, layout);

  const l1 = await readTable(file, context, {
    offset: header.l1TableOffset,
    length: header.l1Size * 8,
    what: 'L1 table',
  });
  const refcountTableLength = header.refcountTableClusters * layout.clusterSize;
  file.debugEvent('reftable_load');
  const refcountTable = await readTable(file, context, {
    offset: header.refcountTableOffset,
    length: refcountTableLength,
    what: 'refcount table',
  });
  const extensions = extensionsOf(header, firstCluster);
  const dataFile = await dataFileOf(header, extensions.dataFile);
  const backingFilename = backingName(header, firstCluster);
  const { snapshots, length: snapshotsLength } = await readSnapshots(
    file,
    {
      offset: header.snapshotsOffset,
      count: header.snapshotCount,
      diskSize: header.size - (header.size % SECTOR),
    },
    context.allocate,
  );
  const bitmaps = await readBitmapList(file, extensions.bitmaps, {
    clusterSize: layout.clusterSize,
    size: header.size - (header.size % SECTOR),
    allocate: context.allocate,
  });

  const parts = { file, dataFile, allocate: context.allocate, geometry: layout };
  const image: Qcow2Image = {
    node,
    log: context.log,
    events: context.events,
    allocate: context.allocate,
    file,
    dataFile,
    ...makeCaches(parts, sizes, () => image),
    size: header.size - (header.size % SECTOR),
    l1,
    l1Entries: header.l1Size,
    l1Offset: header.l1TableOffset,
    refcountTable,
    refcountTableEntries: refcountTableLength / 8,
    refcountTableOffset: header.refcountTableOffset,
    snapshots,
    snapshotsOffset: header.snapshotsOffset,
    snapshotsLength,
    bitmaps,
    incompatible: header.incompatible,
    compatible: header.compatible,
    autoclear: header.autoclear,
    compressionType: header.compressionType,
    ...codec,
    backingFilename,
    backingFormat: extensions.backingFormat,
    dataFilename: extensions.dataFile,
    unknownExtensions: extensions.unknown,
    unknownFields: Buffer.from(
      firstCluster.subarray(HEADER_LENGTH, Math.max(HEADER_LENGTH, header.headerLength)),
    ),
    automaticBacking: backingFilename,
    lock: new Mutex(),
    allocations: [],
    inPlaceWrites: [],
    freeIndex: 0,
    compressedEnd: 0,
    unsettled: new Map(),
    inactiveTables: [],
    metadata: undefined,
    settings,
    unusable: false,
    corruptionReported: false,
    cleanTimer: undefined,
    scratch: emptyEntry(),
    scratchNext: emptyEntry(),
    scratchMapping: emptyMapping(),
  };
  node.supportedZeroFlags = header.version >= 3 ? MAY_UNMAP | NO_FALLBACK : 0;
  if (extensions.hasStaleBitmaps) warnOfStaleBitmaps(image);
  await loadInactiveTables(image);
  if (node.active) {
    await loadBitmaps(image);
    await prepareToWrite(image, extensions);
  }
  return { image, cleanInterval: sizes.cleanInterval };
}

async function readFirstCluster(
  file: BlockChild,
  header: Header,
  context: Pick<OpenContext, 'allocate'>,
): Promise<Buffer> {
  const length = 2 ** header.clusterBits;
  const into = context.allocate(length);
  await readAt(file, { offset: 0, length, into, what: 'unknown qcow2 header fields' });
  return into.bytes;
}

async function readTable(
  file: BlockChild,
  context: Pick<OpenContext, 'allocate'>,
  place: { offset: number; length: number; what: string },
): Promise<IoBuffer> {
  const into = context.allocate(place.length);
  if (place.length > 0) await readAt(file, { ...place, into });
  return into;
}

async function readAt(
  file: BlockChild,
  { offset, length, into, what }: { offset: number; length: number; into: IoBuffer; what: string },
): Promise<void> {
  try {
    await file.read(offset, length, into, 0);
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    const text = what === 'refcount table' ? 'initialize refcount handling' : `read ${what}`;
    throw new QmpError(`Could not ${text}: ${error.reason}`, { cause: error });
  }
}
