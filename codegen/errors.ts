// What is wrong with a schema, and where.

import { describePlace, type SourceInfo } from './source-info.ts';

/** The message is complete: include chain, enclosing definition, `file:line[:column]:` and the text. */
export class SchemaError extends Error {
  override readonly name = 'SchemaError';
  readonly info: SourceInfo | undefined;

  constructor(info: SourceInfo | undefined, text: string, column?: number) {
    const place = info === undefined ? '' : describePlace(info);
    const at = column === undefined ? place : `${place}:${column}`;
    super(at === '' ? text : `${at}: ${text}`);
    this.info = info;
  }
}

/** Stands where the compiler knows that nothing gets to. */
export function unreachable(value: never): never {
  throw new Error(`unexpected ${JSON.stringify(value)}`);
}
