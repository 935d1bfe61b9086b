// What query-named-block-nodes and query-blockstats tell about a node.

import type {
  BlockDeviceInfo,
  BlockDeviceStats,
  BlockStats,
  ImageInfo,
} from '../qapi/generated/types.ts';
import type { BlockChild } from './block-child.ts';
import { CHILD_DATA, CHILD_FILTERED, CHILD_METADATA } from './block-driver.ts';
import type { BlockNode } from './block-node.ts';
import { chainOf } from './block-status.ts';
import { filenameOf } from './filename.ts';
import { imageState } from './image-state.ts';
import { bitmapInfos } from './internal-bitmap.ts';
import { describedSnapshots, snapshotInfo } from './snapshot-internal.ts';

/** One element of query-named-block-nodes; with `flat` without the images below. Throws IoError when a length is unknown. */
export function blockDeviceInfo(node: BlockNode, options: { flat: boolean }): BlockDeviceInfo {
  const backing = node.backing?.node;
  const chain = options.flat ? [node] : [...chainOf(node)];
  const bitmaps = bitmapInfos(node);
  return {
    file: filenameOf(node),
    'node-name': node.nodeName,
    ro: node.readOnly,
    drv: node.driver.name,
    ...(backing === undefined ? {} : { backing_file: filenameOf(backing) }),
    backing_file_depth: chain.length - 1,
    ...(node.active ? {} : { active: false }),
    encrypted: false,
    detect_zeroes: node.detectZeroes,
    ...noThrottling,
    image: nestedImageInfo(chain),
    cache: { writeback: true, direct: node.cacheDirect, 'no-flush': node.cacheNoFlush },
    write_threshold: node.writeThreshold,
    ...(bitmaps.length === 0 ? {} : { 'dirty-bitmaps': bitmaps }),
  };
}

/** One element of query-blockstats with query-nodes. */
export function nodeStats(node: BlockNode): BlockStats {
  const below = storageChild(node);
  const specific = node.driver.specificStats?.(node);
  return {
    'node-name': node.nodeName,
    stats: { ...noRequests, wr_highest_offset: node.writeHighestOffset },
    ...(specific === undefined ? {} : { 'driver-specific': specific }),
    ...(below === undefined ? {} : { parent: nodeStats(below.node) }),
  };
}

const noThrottling = { bps: 0, bps_rd: 0, bps_wr: 0, iops: 0, iops_rd: 0, iops_wr: 0 };

/** Requests are counted for devices only, and a storage daemon has none: of a node the highest write is known. */
const noRequests: BlockDeviceStats = {
  rd_bytes: 0,
  wr_bytes: 0,
  unmap_bytes: 0,
  rd_operations: 0,
  wr_operations: 0,
  flush_operations: 0,
  unmap_operations: 0,
  rd_total_time_ns: 0,
  wr_total_time_ns: 0,
  flush_total_time_ns: 0,
  unmap_total_time_ns: 0,
  wr_highest_offset: 0,
  rd_merged: 0,
  wr_merged: 0,
  unmap_merged: 0,
  failed_rd_operations: 0,
  failed_wr_operations: 0,
  failed_flush_operations: 0,
  failed_unmap_operations: 0,
  invalid_rd_operations: 0,
  invalid_wr_operations: 0,
  invalid_flush_operations: 0,
  invalid_unmap_operations: 0,
  account_invalid: false,
  account_failed: false,
  timed_stats: [],
};

function nestedImageInfo([node, ...below]: readonly BlockNode[]): ImageInfo {
  if (node === undefined) throw new Error('An image chain has at least one node');
  const info = imageInfo(node);
  return below.length === 0 ? info : { ...info, 'backing-image': nestedImageInfo(below) };
}

function imageInfo(node: BlockNode): ImageInfo {
  const actualSize = allocatedSize(node);
  const state = imageState(node);
  return {
    filename: filenameOf(node),
    format: node.driver.name,
    'virtual-size': node.length,
    ...(actualSize === undefined ? {} : { 'actual-size': actualSize }),
    ...(state === undefined ? {} : { 'dirty-flag': state.isDirty }),
    ...(state === undefined || state.clusterSize === 0
      ? {}
      : { 'cluster-size': state.clusterSize }),
    ...snapshotsOf(node),
    ...node.driver.describeImage?.(node),
  };
}

function snapshotsOf(node: BlockNode): Pick<ImageInfo, 'snapshots'> {
  const snapshots = describedSnapshots(node);
  return snapshots.length === 0 ? {} : { snapshots: snapshots.map(snapshotInfo) };
}

/** Bytes that the node and the children holding its content take up. */
export function allocatedSize(node: BlockNode): number | undefined {
  if (node.driver.allocatedSize !== undefined) return node.driver.allocatedSize(node);
  if (node.driver.kind === 'protocol' || node.driver.isProtocol === true) return undefined;
  if (node.filtered !== undefined) return allocatedSize(node.filtered.node);
  let total = 0;
  for (const child of node.children) {
    if ((child.role & (CHILD_DATA | CHILD_METADATA | CHILD_FILTERED)) === 0) continue;
    const size = allocatedSize(child.node);
    if (size === undefined) return undefined;
    total += size;
  }
  return total;
}

/** The one child that stores a node's data, when there is exactly one. */
function storageChild(node: BlockNode): BlockChild | undefined {
  const primary = node.file ?? node.filtered;
  if (primary !== undefined && (primary.role & (CHILD_DATA | CHILD_FILTERED)) !== 0) return primary;
  const storing = node.children.filter((child) => (child.role & CHILD_DATA) !== 0);
  return storing.length === 1 ? storing[0] : undefined;
}
