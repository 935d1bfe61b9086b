// The qcow2 format, https://gitlab.com/qemu-project/qemu/-/blob/master/docs/interop/qcow2.txt: the table of its functions.

import type {
  BlockdevAmendOptionsQcow2,
  BlockdevCreateOptionsQcow2,
  BlockdevOptionsQcow2,
} from '../../../qapi/generated/types.ts';
import { type BlockDriver, ZERO_WRITE } from '../../block-driver.ts';
import { activateImage, inactivateImage } from './activation.ts';
import { amendImage } from './amend.ts';
import { checkCanStore, removeStoredBitmap } from './bitmaps.ts';
import { backingOverridden, changeBackingFile } from './children.ts';
import { closeImage } from './close.ts';
import { createImage } from './create.ts';
import { describeOverlay } from './create-options.ts';
import { describeImage, imageState } from './description.ts';
import type { Qcow2Image } from './image.ts';
import { openImage } from './open.ts';
import { read } from './read.ts';
import { writeCaches } from './refcount.ts';
import { mutableOptions, reopenImage } from './reopen.ts';
import { truncate } from './resize.ts';
import { createSnapshot, deleteSnapshot, listSnapshots } from './snapshot-changes.ts';
import { imageStatus } from './status.ts';
import { write } from './write.ts';
import { writeCompressed } from './write-compressed.ts';
import { discard, writeZeroes } from './zero.ts';

export const qcow2: BlockDriver<
  Qcow2Image,
  BlockdevOptionsQcow2,
  BlockdevCreateOptionsQcow2,
  BlockdevAmendOptionsQcow2
> = {
  name: 'qcow2',
  kind: 'format',
  supportsBacking: true,
  strongOptions: [],
  takesEmpty: ['overlap-check'],

  open(node, options, context) {
    node.supportedTruncateFlags = ZERO_WRITE;
    return openImage(node, options, context);
  },
  reopen(node, options) {
    return reopenImage(node.state, options);
  },
  mutableOptions,
  inactivate(node) {
    return inactivateImage(node.state);
  },
  activate(node) {
    return activateImage(node);
  },
  close(node) {
    return closeImage(node.state);
  },

  checkCanStoreBitmap(node, name, granularity) {
    checkCanStore(node, name, granularity);
  },
  removeStoredBitmap(node, name) {
    return removeStoredBitmap(node.state, name);
  },

  create(options, context) {
    return createImage(options, context);
  },

  describeOverlay,

  amend(node, options) {
    amendImage(node.state, options);
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
  write(node, offset, length, from, at) {
    return write(node.state, offset, length, from, at);
  },
  writeCompressed(node, offset, length, from, at) {
    return writeCompressed(node.state, offset, length, from, at);
  },
  writeZeroes(node, offset, length, flags) {
    return writeZeroes(node.state, offset, length, flags);
  },
  discard(node, offset, length) {
    return discard(node.state, offset, length);
  },
  flushToOs(node) {
    return writeCaches(node.state);
  },
  truncate(node, length, options) {
    return truncate(node.state, length, options);
  },
  blockStatus(node, offset, length) {
    return imageStatus(node.state, offset, length);
  },

  internalSnapshots: {
    list: (node) => listSnapshots(node.state),
    create: (node, snapshot) => createSnapshot(node.state, snapshot),
    delete: (node, selector) => deleteSnapshot(node.state, selector),
  },

  imageInfo(node) {
    return imageState(node.state);
  },
  describeImage(node) {
    return describeImage(node.state);
  },
  changeBackingFile(node, name) {
    return changeBackingFile(node.state, name);
  },
  backingOverridden(node) {
    return backingOverridden(node.state);
  },
};
