// Names of nodes: given by the user or made up for nodes that were given none.

import { QmpError } from '../qapi/errors.ts';

const WELL_FORMED = /^[A-Za-z][A-Za-z0-9\-._]*$/;
/** Bytes; one less than the reference's field. */
const LONGEST = 31;

/** Throws QmpError unless a user may call a node `name`. */
export function checkNodeName(name: string, taken: (name: string) => boolean): void {
  if (!WELL_FORMED.test(name)) throw new QmpError(`Invalid node-name: '${name}'`);
  if (taken(name)) throw new QmpError(`Duplicate nodes with node-name='${name}'`);
  if (name.length > LONGEST) throw new QmpError('Node name too long');
}

/** Makes up names that no user can have chosen: `#block007`, a counter and two random digits. */
export class NodeNameGenerator {
  #next = 0;

  next(): string {
    const digits = String(Math.floor(Math.random() * 100)).padStart(2, '0');
    return `#block${this.#next++}${digits}`;
  }
}
