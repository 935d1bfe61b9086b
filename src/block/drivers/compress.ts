// The filter `compress`: what is written goes to the image below compressed. It writes whole clusters, and such only that have
// no data yet: it is for images that are filled once.

import { QmpError } from '../../qapi/errors.ts';
import type { BlockdevOptionsGenericFormat } from '../../qapi/generated/types.ts';
import { type BlockDriver, WRITE_COMPRESSED } from '../block-driver.ts';
import { filteredChild, openFiltered, passFlags, passThrough } from '../filter.ts';

export const compress: BlockDriver<void, BlockdevOptionsGenericFormat> = {
  name: 'compress',
  kind: 'filter',
  variableLength: true,
  strongOptions: [],

  async open(node, options, context) {
    const { driver } = (await openFiltered(options, context)).node;
    if (driver.writeCompressed === undefined) {
      throw new QmpError(`Compression is not supported for underlying format: ${driver.name}`);
    }
    passFlags(node);
  },
  refreshLimits(node, limits) {
    const below = filteredChild(node).node;
    const { clusterSize } = below.driver.imageInfo?.(below) ?? { clusterSize: 0 };
    if (clusterSize > 0) limits.requestAlignment = clusterSize;
  },

  length: passThrough.length,
  read: passThrough.read,
  write(node, offset, length, from, at, flags) {
    return filteredChild(node).write(offset, length, from, at, flags | WRITE_COMPRESSED);
  },
  writeZeroes: passThrough.writeZeroes,
  discard: passThrough.discard,
};
