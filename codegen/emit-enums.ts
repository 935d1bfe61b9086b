// The values of every enum, in schema order, for code that lists or searches them.

import type { Schema } from './types.ts';
import { exportedName, GENERATED_NOTICE, namedTypes, quote } from './visitor.ts';

export function emitEnums(schema: Schema): string {
  const lines = namedTypes(schema).flatMap((type) => {
    if (type.kind !== 'enum') return [];
    const values = type.values.map((value) => quote(value.name)).join(', ');
    return [`export const ${exportedName(type)}Values = [${values}] as const;`];
  });
  return `${GENERATED_NOTICE}\n${lines.join('\n')}\n`;
}
