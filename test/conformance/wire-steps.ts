// Builders for the NBD steps of a case, in the words of the protocol.

import type { Case, Request, Step } from './case.ts';

/** NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES */
export const NBD_FLAGS = 3;

export const NBD_OPT_EXPORT_NAME = 1;
export const NBD_OPT_ABORT = 2;
export const NBD_OPT_LIST = 3;
export const NBD_OPT_PEEK_EXPORT = 4;
export const NBD_OPT_STARTTLS = 5;
export const NBD_OPT_INFO = 6;
export const NBD_OPT_GO = 7;
export const NBD_OPT_STRUCTURED_REPLY = 8;
export const NBD_OPT_LIST_META_CONTEXT = 9;
export const NBD_OPT_SET_META_CONTEXT = 10;
export const NBD_OPT_EXTENDED_HEADERS = 11;

export const NBD_INFO_EXPORT = 0;
export const NBD_INFO_NAME = 1;
export const NBD_INFO_DESCRIPTION = 2;
export const NBD_INFO_BLOCK_SIZE = 3;

export const NBD_CMD_READ = 0;
export const NBD_CMD_WRITE = 1;
export const NBD_CMD_DISC = 2;
export const NBD_CMD_FLUSH = 3;
export const NBD_CMD_TRIM = 4;
export const NBD_CMD_CACHE = 5;
export const NBD_CMD_WRITE_ZEROES = 6;
export const NBD_CMD_BLOCK_STATUS = 7;

export const FUA = 1;
export const NO_HOLE = 2;
export const DF = 4;
export const REQ_ONE = 8;
export const FAST_ZERO = 16;

/** A connection of its own to the group's server. */
export function hello(as: string, flags: number, path = '@DIR@/nbd.sock'): Step {
  return { do: 'nbd', path, as, flags };
}

/** Keeps steps of one peer together in a longer case. */
export function nbd(...steps: readonly Step[]): Step {
  return { do: 'all', steps };
}

export function option(on: string, number: number, payload: Uint8Array = new Uint8Array()): Step {
  return { do: 'option', on, option: number, payload };
}

export function go(on: string, name: string, infos: readonly number[] = []): Step {
  return option(on, NBD_OPT_GO, goPayload(name, infos));
}

export function structured(on: string): Step {
  return option(on, NBD_OPT_STRUCTURED_REPLY);
}

export function setMeta(on: string, name: string, queries: readonly string[]): Step {
  return option(on, NBD_OPT_SET_META_CONTEXT, metaPayload(name, queries));
}

export function goPayload(name: string, infos: readonly number[]): Uint8Array {
  const bytes = Buffer.from(name);
  return Buffer.concat([u32(bytes.length), bytes, u16(infos.length), ...infos.map(u16)]);
}

export function metaPayload(name: string, queries: readonly string[]): Uint8Array {
  const bytes = Buffer.from(name);
  const texts = queries.flatMap((query) => [u32(Buffer.byteLength(query)), Buffer.from(query)]);
  return Buffer.concat([u32(bytes.length), bytes, u32(queries.length), ...texts]);
}

export function u32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32BE(value);
  return buffer;
}

export function u16(value: number): Buffer {
  const buffer = Buffer.alloc(2);
  buffer.writeUInt16BE(value);
  return buffer;
}

/** A case in a connection of its own: greeting, then options one by one. */
export function handshake(id: string, ...steps: readonly Step[]): Case {
  return { id, steps: [hello('c', NBD_FLAGS), ...steps] };
}

/** How a transmission case negotiates. */
export type Mode = 'simple' | 'structured' | 'extents';

export function enter(mode: Mode, name: string): Step[] {
  const steps: Step[] = [hello('c', NBD_FLAGS)];
  if (mode !== 'simple') steps.push(structured('c'));
  if (mode === 'extents') steps.push(setMeta('c', name, ['base:allocation']));
  return [...steps, go('c', name)];
}

/** A case in transmission: each group of requests is sent at once, the answers awaited. */
export function transmission(
  id: string,
  mode: Mode,
  name: string,
  ...batches: readonly (Request | readonly Request[])[]
): Case {
  return { id: `${id} (${mode})`, steps: [...enter(mode, name), ...batches.map(requests)] };
}

export function requests(batch: Request | readonly Request[]): Step {
  return { do: 'requests', on: 'c', requests: Array.isArray(batch) ? batch : [batch as Request] };
}

/** The client says goodbye, and waits until the server has noticed: one that only hangs up may be there for another command. */
export const leave: Step = requests({ type: NBD_CMD_DISC });
