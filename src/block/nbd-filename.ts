// Which disk of which NBD server a file name stands for: `nbd:HOST:PORT`, `nbd:unix:PATH`, both with `:exportname=NAME`, and
// URIs: `nbd://HOST[:PORT]/NAME`, `nbd+tcp://...`, `nbd+unix:///NAME?socket=PATH`.

import { QmpError } from '../qapi/errors.ts';
import type { BlockdevOptionsNbd } from '../qapi/generated/types.ts';
import { parseUri } from './uri.ts';

export type NbdFileOptions = { readonly driver: 'nbd' } & Pick<
  BlockdevOptionsNbd,
  'server' | 'export'
>;

type Server = BlockdevOptionsNbd['server'];

const DEFAULT_PORT = 10_809;
const EXPORT_NAME = ':exportname=';

const schemes: readonly string[] = ['nbd', 'nbd+tcp', 'nbd+unix'];

/** True for names that `nbdFileOptions` is for, rightly made or not. */
export function isNbdFilename(filename: string): boolean {
  return schemes.includes(filename.slice(0, Math.max(0, filename.indexOf(':'))));
}

/** Throws QmpError with the reference's texts. */
export function nbdFileOptions(filename: string): NbdFileOptions {
  if (!filename.includes('://')) return fromAddress(filename);
  const options = fromUri(filename);
  if (options === undefined) throw new QmpError('No valid URL specified');
  return options;
}

function fromUri(filename: string): NbdFileOptions | undefined {
  const uri = parseUri(filename);
  if (uri === undefined || !schemes.includes(uri.scheme)) return undefined;
  const { scheme, host, port, path, parameters } = uri;
  const [parameter] = parameters;
  let server: Server;
  if (scheme === 'nbd+unix') {
    if (host !== undefined || port !== 0 || parameters.length !== 1) return undefined;
    if (parameter?.name !== 'socket' || parameter.value === undefined) return undefined;
    server = { type: 'unix', path: parameter.value };
  } else {
    if (host === undefined || parameter !== undefined) return undefined;
    // Without the brackets of an address of IPv6.
    const bare = host.startsWith('[') ? host.slice(1, -1) : host;
    server = { type: 'inet', host: bare, port: String(port === 0 ? DEFAULT_PORT : port) };
  }
  return withExport(server, path.startsWith('/') ? path.slice(1) : path);
}

function fromAddress(filename: string): NbdFileOptions {
  const at = filename.indexOf(EXPORT_NAME);
  const name = at < 0 ? '' : filename.slice(at + EXPORT_NAME.length);
  const file = at < 0 ? filename : filename.slice(0, at);
  // The reference leaves off where a name should come, and has nothing then.
  if (at >= 0 && name === '') throw new QmpError('NBD server address missing');
  if (!file.startsWith('nbd:')) {
    throw new QmpError("File name string for NBD must start with 'nbd:'");
  }
  const address = file.slice('nbd:'.length);
  if (address === '') throw new QmpError('NBD server address missing');
  const server: Server = address.startsWith('unix:')
    ? { type: 'unix', path: address.slice('unix:'.length) }
    : inetServer(address);
  return withExport(server, name);
}

/** Options behind the port mean nothing here, as in the reference. */
function inetServer(address: string): Server {
  const [shape, what] = address.startsWith(':')
    ? [/^():([^,]{1,32})/, 'port in']
    : address.startsWith('[')
      ? [/^\[([^\]]{1,64})\]:([^,]{1,32})/, 'IPv6']
      : [/^([^:]{1,64}):([^,]{1,32})/, ''];
  const match = shape.exec(address);
  if (match === null) {
    throw new QmpError(`error parsing ${what === '' ? '' : `${what} `}address '${address}'`);
  }
  const [, host = '', port = ''] = match;
  return { type: 'inet', host, port };
}

function withExport(server: Server, name: string): NbdFileOptions {
  return { driver: 'nbd', server, ...(name === '' ? {} : { export: name }) };
}
