// block-set-write-threshold: an event when a write goes beyond an offset, once.

import { QmpError } from '../qapi/errors.ts';
import type { BlockGraph } from './block-graph.ts';

/** `threshold` in bytes, 0 for none. Throws QmpError. */
export function setWriteThreshold(
  graph: Pick<BlockGraph, 'events' | 'lookUp'>,
  nodeName: string,
  threshold: number,
): void {
  const node = graph.lookUp(nodeName);
  if (node === undefined) throw new QmpError(`Device '${nodeName}' not found`);
  node.writeThreshold = threshold;
  node.onThreshold = (exceededBy, passed) => {
    graph.events.emit('BLOCK_WRITE_THRESHOLD', {
      'node-name': nodeName,
      'amount-exceeded': exceededBy,
      'write-threshold': passed,
    });
  };
}
