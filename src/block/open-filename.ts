// Which node a file name stands for, where only a name is given: a path, or `PROTOCOL:...`.

import { statSync } from 'node:fs';
import { QmpError } from '../qapi/errors.ts';
import type { BlockdevOptionsFile } from '../qapi/generated/types.ts';
import { isNbdFilename, type NbdFileOptions, nbdFileOptions } from './nbd-filename.ts';

export type FileOptions = { readonly driver: 'file' | 'host_device' } & BlockdevOptionsFile;

export interface DebugFileOptions {
  readonly driver: 'blkdebug';
  readonly config?: string;
  readonly image: ProtocolOptions;
}

export type ProtocolOptions = FileOptions | NbdFileOptions | DebugFileOptions;

const DEBUG = 'blkdebug:';

/** Options of the protocol node for a file name. Throws QmpError when nobody here knows its protocol, or what follows it. */
export function protocolOptions(filename: string): ProtocolOptions {
  if (filename.startsWith(DEBUG)) return debugOptions(filename.slice(DEBUG.length));
  return isNbdFilename(filename) ? nbdFileOptions(filename) : fileOptions(filename);
}

/** `CONFIG:IMAGE`, both names of files; the first may be empty. */
function debugOptions(names: string): DebugFileOptions {
  const end = names.indexOf(':');
  if (end === -1) throw new QmpError('blkdebug requires both config file and image path');
  const image = protocolOptions(names.slice(end + 1));
  return { driver: 'blkdebug', ...(end === 0 ? {} : { config: names.slice(0, end) }), image };
}

/** The same for names that have to be of local files. */
export function fileOptions(filename: string): FileOptions {
  return pathOptions(localPath(filename));
}

/** The same for names that are paths, whatever they look like. */
export function pathOptions(path: string): FileOptions {
  const isDevice = statSync(path, { throwIfNoEntry: false })?.isBlockDevice() === true;
  return { driver: isDevice ? 'host_device' : 'file', filename: path };
}

/** True for `PROTOCOL:...`. */
export function hasProtocol(filename: string): boolean {
  return /^[^:/]*:/.test(filename);
}

function localPath(filename: string): string {
  if (filename.startsWith('file:')) return filename.slice('file:'.length);
  if (!hasProtocol(filename)) return filename;
  throw new QmpError(`Unknown protocol '${filename.slice(0, filename.indexOf(':'))}'`);
}
