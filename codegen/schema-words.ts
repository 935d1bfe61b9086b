// How messages name the parts of a schema.

import type { ObjectType } from './types.ts';

/** `member 'x'`, `parameter 'x'` of a command or event, `base member 'x'` of a union. */
export function describeMember(name: string, owner: ObjectType): string {
  if (owner.origin === 'arguments') return `parameter '${name}'`;
  return owner.origin === 'base' ? `base member '${name}'` : `member '${name}'`;
}
