// What the cases of exports share.

import { ask, type Case } from '../../case.ts';

export const unix = (path = '@DIR@/nbd.sock'): unknown => ({ type: 'unix', data: { path } });

export const add = (more: object): Case => ask('block-export-add', more);

export const long = (length: number): string => 'n'.repeat(length);
