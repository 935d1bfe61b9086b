// What --object help and --object TYPE,help print.

import { objectTypeRow } from '../object/object-types.ts';
import { ObjectTypeValues } from '../qapi/generated/enums.ts';

/** The properties of `type` that can be set, or all types when there is no such type. */
export function objectHelp(type: unknown): string {
  const name = ObjectTypeValues.find((known) => known === type);
  if (name === undefined) {
    const names = [...ObjectTypeValues].sort();
    return `List of user creatable objects:\n${names.map((each) => `  ${each}\n`).join('')}`;
  }
  const lines = objectTypeRow(name)
    .properties.filter((property) => property.set !== undefined)
    .map((property) => `  ${property.name}=<${property.type}>\n`);
  return `${name} options:\n${lines.sort().join('')}`;
}
