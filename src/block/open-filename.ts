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

export interface VerifyFileOptions {
  readonly driver: 'blkverify';
  readonly raw: ProtocolOptions;
  readonly test: { readonly driver: ImageFormat; readonly file: ProtocolOptions };
}

export type ProtocolOptions = FileOptions | NbdFileOptions | DebugFileOptions | VerifyFileOptions;

export type ImageFormat = 'qcow2' | 'raw';

/** Finds out the format of what a protocol node with these options holds; `name` is what to call it. Throws QmpError. */
export type FindFormat = (file: ProtocolOptions, name: string) => ImageFormat;

const DEBUG = 'blkdebug:';
const VERIFY = 'blkverify:';

/** Options of the protocol node for a file name. Throws QmpError when nobody here knows its protocol, or what follows it. */
export function protocolOptions(filename: string, findFormat: FindFormat): ProtocolOptions {
  if (filename.startsWith(DEBUG)) return debugOptions(filename.slice(DEBUG.length), findFormat);
  if (filename.startsWith(VERIFY)) return verifyOptions(filename.slice(VERIFY.length), findFormat);
  return isNbdFilename(filename) ? nbdFileOptions(filename) : fileOptions(filename);
}

/** `CONFIG:IMAGE`, both names of files; the first may be empty. */
function debugOptions(names: string, findFormat: FindFormat): DebugFileOptions {
  const [config, name] = twoNames(names) ?? [];
  if (config === undefined || name === undefined) {
    throw new QmpError('blkdebug requires both config file and image path');
  }
  const image = protocolOptions(name, findFormat);
  return { driver: 'blkdebug', ...(config === '' ? {} : { config }), image };
}

/** `RAW:IMAGE`, both names of files; the second may have any format. */
function verifyOptions(names: string, findFormat: FindFormat): VerifyFileOptions {
  const [raw, name] = twoNames(names) ?? [];
  if (raw === undefined || name === undefined) {
    throw new QmpError('blkverify requires raw copy and original image path');
  }
  if (raw === '') throw new QmpError("The 'file' block driver requires a file name");
  const file = protocolOptions(name, findFormat);
  const test = { driver: findFormat(file, name), file };
  return { driver: 'blkverify', raw: pathOptions(raw), test };
}

function twoNames(names: string): readonly [string, string] | undefined {
  const end = names.indexOf(':');
  return end === -1 ? undefined : [names.slice(0, end), names.slice(end + 1)];
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
