// The name that alone opens the same export, where there is one.

import type { BlockdevOptionsNbd } from '../../../qapi/generated/types.ts';

/** Bytes that the reference keeps of a name, one of them for its end. */
const MAX_FILENAME = 4096;

/** Undefined when the address has no such form, or the name is too long. */
export function exactFilename(options: BlockdevOptionsNbd): string | undefined {
  const name = nameOf(options);
  return name === undefined || Buffer.byteLength(name) >= MAX_FILENAME ? undefined : name;
}

function nameOf({ server, export: name }: BlockdevOptionsNbd): string | undefined {
  if (server.type === 'unix') {
    return name === undefined
      ? `nbd+unix://?socket=${server.path}`
      : `nbd+unix:///${name}?socket=${server.path}`;
  }
  if (server.type !== 'inet') return undefined;
  const { host, port, ipv4, ipv6, to } = server;
  if (ipv4 !== undefined || ipv6 !== undefined || to !== undefined) return undefined;
  return name === undefined ? `nbd://${host}:${port}` : `nbd://${host}:${port}/${name}`;
}
