// The qcow2 format, https://gitlab.com/qemu-project/qemu/-/blob/master/docs/interop/qcow2.txt: the table of its functions.

import type { BlockdevOptionsQcow2 } from '../../../qapi/generated/types.ts';
import type { BlockDriver } from '../../block-driver.ts';
import { backingOverridden } from './children.ts';
import { describeImage, imageState } from './description.ts';
import type { Qcow2Image } from './image.ts';
import { openImage } from './open.ts';
import { read } from './read.ts';
import { imageStatus } from './status.ts';

export const qcow2: BlockDriver<Qcow2Image, BlockdevOptionsQcow2> = {
  name: 'qcow2',
  kind: 'format',
  supportsBacking: true,
  strongOptions: [],

  open(node, options, context) {
    node.applyAutoReadOnly('qcow2 images can only be read');
    return openImage(node, options, context);
  },
  close(node) {
    clearInterval(node.state.cleanTimer);
  },

  length(node) {
    return node.state.size;
  },
  refreshLimits(node, limits) {
    const { geometry } = node.state;
    limits.zeroAlignment = geometry.subclusterSize;
    limits.discardAlignment = geometry.clusterSize;
  },

  read(node, offset, length, into, at) {
    return read(node.state, offset, length, into, at);
  },
  blockStatus(node, offset, length) {
    return imageStatus(node.state, offset, length);
  },

  imageInfo(node) {
    return imageState(node.state);
  },
  describeImage(node) {
    return describeImage(node.state);
  },
  backingOverridden(node) {
    return backingOverridden(node.state);
  },
};
