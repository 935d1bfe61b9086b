// What the cases of NBD options share.

import type { Step } from '../../case.ts';
import { goPayload, NBD_OPT_INFO, option } from '../../wire-steps.ts';

export const opt = (number: number, payload?: Uint8Array): Step => option('c', number, payload);
export const info = (name: string, infos: readonly number[] = []): Step =>
  opt(NBD_OPT_INFO, goPayload(name, infos));

export const text = (value: string): Uint8Array => Buffer.from(value);
export const join = (...parts: Uint8Array[]): Uint8Array => Buffer.concat(parts);
export const read: Step = { do: 'requests', on: 'c', requests: [{ type: 0, length: 16 }] };
export const status: Step = { do: 'requests', on: 'c', requests: [{ type: 7, length: 4096 }] };
export const exportName = (name: string, zeroes: boolean): Step => ({
  do: 'export name',
  on: 'c',
  name,
  zeroes,
});

export const payload = (number: number, bytes: Uint8Array): Step => opt(number, bytes);
