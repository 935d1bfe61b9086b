// The nodes that an image names in its header or that options give instead: the external data file and the backing file.

import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import { QmpError } from '../../../qapi/errors.ts';
import type {
  BlockdevDriver,
  BlockdevOptions,
  BlockdevRef,
  BlockdevRefOrNull,
} from '../../../qapi/generated/types.ts';
import type { BlockChild } from '../../block-child.ts';
import { CHILD_COW, CHILD_DATA, CHILD_METADATA, CHILD_PRIMARY } from '../../block-driver.ts';
import type { OpenContext } from '../../driver-context.ts';
import { filenameOf } from '../../filename.ts';
import {
  isJsonFilename,
  type JsonFilenameContext,
  jsonFilenameOptions,
} from '../../json-filename.ts';
import {
  hasProtocol,
  type ImageFormat,
  pathOptions,
  protocolOptions,
} from '../../open-filename.ts';
import { refreshPermissions } from '../../permissions.ts';
import { AUTOCLEAR_DATA_FILE_RAW, INCOMPAT_DATA_FILE } from './features.ts';
import { type Header, MAX_BACKING_NAME } from './header.ts';
import { keptFormatName } from './header-extensions.ts';
import { rewriteHeader } from './header-rewrite.ts';
import type { Qcow2Image, Qcow2Node } from './image.ts';
import { readProbe } from './probe.ts';

/** Answers the child that holds the data: `file` unless there is an external data file. Throws QmpError. */
export async function openDataFile(options: {
  readonly node: Qcow2Node;
  readonly file: BlockChild;
  readonly option: BlockdevRef | undefined;
  readonly context: OpenContext;
  readonly header: Header;
  /** As the header has it. */
  readonly name: string | undefined;
}): Promise<BlockChild> {
  const { node, file, option, context, header, name } = options;
  const external = (header.incompatible & INCOMPAT_DATA_FILE) !== 0n;
  // An image that anybody made must not have servers or devices opened for writing: the name is a path.
  const named = external && name !== undefined ? pathOptions(name) : undefined;
  const reference: BlockdevRef | undefined = option ?? named;
  const dataFile =
    reference === undefined
      ? undefined
      : await context.openChild('data-file', reference, CHILD_DATA);
  if (external) {
    if (dataFile === undefined) throw new QmpError("'data-file' is required for this image");
    // No data here: its users may do more with it.
    file.role = CHILD_METADATA | CHILD_PRIMARY;
    refreshPermissions([node]);
    return dataFile;
  }
  if (dataFile !== undefined) {
    throw new QmpError("'data-file' can only be set for images with an external data file");
  }
  if ((header.autoclear & AUTOCLEAR_DATA_FILE_RAW) !== 0n) {
    throw new QmpError('data-file-raw requires a data file');
  }
  return file;
}

/**
 * Attaches the backing file: the one that is given, none for null, or else the one in the header. Throws QmpError.
 */
export async function openBacking(
  image: Qcow2Image,
  given: BlockdevRefOrNull | undefined,
  context: OpenContext,
): Promise<void> {
  if (given === '') {
    context.log.warn('Use of "backing": "" is deprecated; use "backing": null instead');
  }
  if (given === null || given === '') return;
  if (given === undefined && image.backingFilename === undefined) return;
  const filename = given === undefined ? fullBackingFilename(image) : undefined;
  const failing = 'Could not open backing file';
  let reference: BlockdevRef;
  try {
    reference = given ?? (await backingOptions(image, filename, context));
  } catch (error) {
    if (!(error instanceof QmpError)) throw error;
    throw new QmpError(`${failing}: ${error.message}`, { cause: error });
  }
  const child = await context.openChild('backing', reference, CHILD_COW, failing);
  if (given === undefined) image.automaticBacking = filenameOf(child.node);
}

/** Where the header's backing file is, seen from here; undefined without one. Throws QmpError. */
export function fullBackingFilename(image: Qcow2Image): string | undefined {
  const { backingFilename } = image;
  if (backingFilename === undefined) return undefined;
  if (backingFilename.startsWith('/') || hasProtocol(backingFilename)) return backingFilename;
  let below = image.file.node;
  while (below.file !== undefined) below = below.file.node;
  if (below.driver.noDirectory !== undefined) throw new QmpError(below.driver.noDirectory);
  const own = filenameOf(below);
  if (own.startsWith('json:')) {
    throw new QmpError(`Cannot generate a base directory with the extended filename: ${own}`);
  }
  return own.slice(0, own.lastIndexOf('/') + 1) + backingFilename;
}

/** True when the node has another backing file than its header says, or none. */
export function backingOverridden(image: Qcow2Image): boolean {
  const { backing } = image.node;
  return (backing === undefined ? undefined : filenameOf(backing.node)) !== image.automaticBacking;
}

async function backingOptions(
  image: Qcow2Image,
  filename: string | undefined,
  context: OpenContext,
): Promise<BlockdevOptions> {
  if (filename === undefined) throw new Error('No backing file');
  const format = image.backingFormat;
  if (isJsonFilename(filename)) {
    return jsonFilenameOptions(filename, { level: 'image', driver: format }, namesIn(context));
  }
  const protocol = protocolOptions(filename, (file, name) => formatOf(file, name, context));
  if (format === protocol.driver) return protocol;
  if (format !== undefined && format !== '') {
    return { driver: format as BlockdevDriver, file: protocol } as BlockdevOptions;
  }
  return { driver: formatOf(protocol, filename, context), file: protocol };
}

function namesIn(context: OpenContext): JsonFilenameContext {
  return {
    driver: (name) => context.driver(name),
    format(file) {
      const node = typeof file === 'string' ? context.lookUp(file) : undefined;
      if (typeof file !== 'string') return formatOf(file, file.driver, context);
      if (node === undefined) {
        throw new QmpError(`Cannot find device='${file}' nor node-name='${file}'`);
      }
      return formatOf(node.options, file, context);
    },
  };
}

/** The format of what a protocol node with those options holds; `name` is what to call it. Throws QmpError. */
function formatOf(file: BlockdevOptions, name: string, context: OpenContext): ImageFormat {
  if (file.driver === 'blkdebug' && typeof file.image !== 'string') {
    return formatOf(file.image, name, context);
  }
  if (file.driver === 'file' || file.driver === 'host_device') {
    return readProbe(file.filename, context);
  }
  // Taken for raw, a format would be read as if it were data; others than files cannot be looked at from here.
  throw new QmpError(`The format of '${name}' is not known: the image does not name it`);
}

/** Writes another name and format of the backing file to the header. Throws IoError. */
export async function changeBackingFile(
  image: Qcow2Image,
  { file, format }: { readonly file: string; readonly format: string },
): Promise<void> {
  const isRaw = (image.autoclear & AUTOCLEAR_DATA_FILE_RAW) !== 0n;
  // The data file alone could not show what a backing file has.
  if (isRaw || Buffer.byteLength(file) > MAX_BACKING_NAME) {
    throw new IoError(errno.EINVAL, { syscall: 'backing file' });
  }
  await image.lock.run(async () => {
    const { backingFilename, backingFormat } = image;
    image.backingFilename = file === '' ? undefined : file;
    image.backingFormat = keptFormatName(format);
    try {
      await rewriteHeader(image);
    } catch (error) {
      image.backingFilename = backingFilename;
      image.backingFormat = backingFormat;
      throw error;
    }
    image.automaticBacking = file;
  });
  await image.file.flush();
}
