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
import { type Codec, codecOf } from './compression.ts';
import { isDirty } from './dirty.ts';
import {
  AUTOCLEAR_BITMAPS,
  AUTOCLEAR_KNOWN,
  INCOMPAT_CORRUPT,
  INCOMPAT_DATA_FILE,
  INCOMPAT_EXTL2,
  unknownFeatures,
  unsupportedFeatures,
} from './features.ts';
import {
  checkCompressionType,
  checkRefcountOrder,
  checkTable,
  decodeHeader,
  HEADER_LENGTH,
  type Header,
  MAX_BACKING_NAME,
  MAX_L1,
  MAX_REFCOUNT_TABLE,
} from './header.ts';
import { decodeExtensions, type HeaderExtensions, textUpToNul } from './header-extensions.ts';
import { rewriteHeader } from './header-rewrite.ts';
import { writeAutoclear } from './header-update.ts';
import type { Geometry, Qcow2Image, Qcow2Node } from './image.ts';
import { loadInactiveTables } from './inactive-tables.ts';
import { emptyEntry } from './l1-l2.ts';
import { emptyMapping } from './mapping.ts';
import { imageSettings } from './options.ts';
import { repairImage } from './repair.ts';
import { saying } from './saying.ts';
import { MAX_SNAPSHOTS, readSnapshots, SNAPSHOT_HEADER } from './snapshot.ts';

/** Subclusters of a cluster with extended L2 entries. */
const SUBCLUSTERS = 32;
const SMALLEST_SUBCLUSTER = 512;

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
  await openBacking(image, options.backing, context);
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

/** Throws QmpError when the compression type is unknown, or not what the features say. */
function knownCodec(header: Header): Codec {
  const { compressionType } = header;
  const codec = codecOf(compressionType);
  if (codec === undefined) {
    throw new QmpError(`qcow2: unknown compression type: ${compressionType}`);
  }
  checkCompressionType(header);
  return codec;
}

function layoutOf(header: Header): Omit<Geometry, 'sliceSize'> {
  const clusterSize = 2 ** header.clusterBits;
  const extended = (header.incompatible & INCOMPAT_EXTL2) !== 0n;
  const subclusters = extended ? SUBCLUSTERS : 1;
  const l2EntrySize = extended ? 16 : 8;
  const l2Entries = clusterSize / l2EntrySize;
  const refcountBits = 2 ** header.refcountOrder;
  return {
    version: header.version,
    clusterBits: header.clusterBits,
    clusterSize,
    subclusters,
    subclusterSize: clusterSize / subclusters,
    l2EntrySize,
    l2Entries,
    l2Coverage: l2Entries * clusterSize,
    refcountOrder: header.refcountOrder,
    refcountBits,
    refcountsPerBlock: (clusterSize * 8) / refcountBits,
    hasDataFile: (header.incompatible & INCOMPAT_DATA_FILE) !== 0n,
  };
}

function checkFeatures(node: Qcow2Node, header: Header, firstCluster: Buffer): void {
  const unknown = unknownFeatures(header.incompatible);
  if (unknown !== 0n) throw unsupportedFeatures(unknown, featureTableOf(header, firstCluster));
  if ((header.incompatible & INCOMPAT_CORRUPT) !== 0n && !node.readOnly) {
    throw new QmpError('qcow2: Image is corrupt; cannot be opened read/write');
  }
}

/** Without it where the extensions make no sense: the features are what is complained about. */
function featureTableOf(header: Header, firstCluster: Buffer): Buffer | undefined {
  try {
    return extensionsOf(header, firstCluster).featureTable;
  } catch {
    return undefined;
  }
}

function checkHeader(header: Header): void {
  const { subclusterSize } = layoutOf(header);
  if (subclusterSize < SMALLEST_SUBCLUSTER) {
    throw new QmpError(`Unsupported subcluster size: ${subclusterSize}`);
  }
  checkRefcountOrder(header.refcountOrder);
  if (header.refcountTableClusters === 0) {
    throw new QmpError('Image does not contain a reference count table');
  }
}

function checkTables(header: Header, geometry: Omit<Geometry, 'sliceSize'>): void {
  const { clusterSize } = geometry;
  checkTable(
    {
      name: 'Reference count table',
      offset: header.refcountTableOffset,
      entries: header.refcountTableClusters,
      entryLength: clusterSize,
      maxBytes: MAX_REFCOUNT_TABLE,
    },
    clusterSize,
  );
  checkTable(
    {
      name: 'Snapshot table',
      offset: header.snapshotsOffset,
      entries: header.snapshotCount,
      entryLength: SNAPSHOT_HEADER,
      maxBytes: SNAPSHOT_HEADER * MAX_SNAPSHOTS,
    },
    clusterSize,
  );
  checkTable(
    {
      name: 'Active L1 table',
      offset: header.l1TableOffset,
      entries: header.l1Size,
      entryLength: 8,
      maxBytes: MAX_L1,
    },
    clusterSize,
  );
  const needed = Math.ceil(header.size / geometry.l2Coverage);
  const tooBig = 'Image is too big';
  if (needed > 2 ** 31 - 1) throw new QmpError(tooBig);
  if (header.l1Size < needed) throw new QmpError('L1 table is too small');
  // A length that numbers cannot tell apart is too big here, too.
  if (header.size > Number.MAX_SAFE_INTEGER) throw new QmpError(tooBig);
  if (header.cryptMethod !== 0) {
    throw new QmpError(
      header.cryptMethod > 2
        ? `Unsupported encryption method ${header.cryptMethod | 0}`
        : // Nobody can give a key here.
          "Parameter 'encrypt.key-secret' is required for cipher",
    );
  }
}

function extensionsOf(header: Header, firstCluster: Buffer): HeaderExtensions {
  const end = header.backingFileOffset === 0 ? firstCluster.length : header.backingFileOffset;
  return decodeExtensions(
    firstCluster,
    { start: header.headerLength, end },
    {
      clusterBits: header.clusterBits,
      cryptMethod: header.cryptMethod,
      bitmapsValid: (header.autoclear & AUTOCLEAR_BITMAPS) !== 0n,
    },
  );
}

function backingName(header: Header, firstCluster: Buffer): string | undefined {
  const { backingFileOffset: offset, backingFileSize: length } = header;
  if (offset === 0) return undefined;
  if (length > Math.min(MAX_BACKING_NAME, firstCluster.length - offset)) {
    throw new QmpError('Backing file name too long');
  }
  const name = textUpToNul(firstCluster.subarray(offset, offset + length));
  return name === '' ? undefined : name;
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

function warnOfStaleBitmaps({ geometry, log }: Qcow2Image): void {
  const why =
    geometry.version < 3
      ? 'This qcow2 v2 image contains bitmaps, but they may have been modified by a program without ' +
        'persistent bitmap support; so now they must all be considered inconsistent'
      : 'a program lacking bitmap support modified this file, so all bitmaps are now considered inconsistent';
  log.warn(why, {
    hint: "Some clusters may be leaked, run 'qemu-img check -r' on the image file to fix.",
  });
}

/** What must be done to an image that is opened for writing. Throws QmpError. */
async function prepareToWrite(
  image: Qcow2Image,
  { hasStaleBitmaps }: HeaderExtensions,
): Promise<void> {
  if (image.node.readOnly) return;
  const kept = image.autoclear & AUTOCLEAR_KNOWN;
  try {
    if (hasStaleBitmaps) {
      image.autoclear = kept;
      await rewriteHeader(image);
      await image.file.flush();
    } else if (kept !== image.autoclear) {
      await writeAutoclear(image, kept);
    }
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    throw new QmpError(`Could not update qcow2 header: ${error.reason}`, { cause: error });
  }
  if (isDirty(image)) {
    await saying('Could not repair dirty image', () => image.lock.run(() => repairImage(image)));
  }
}
