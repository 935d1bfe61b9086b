// The steps that bring up a vhost-user-blk device, as a virtual machine takes them: features, memory, rings. Used by tests and by
// the benchmark; each is on its own, for those who want to get one of them wrong.

import type { Frontend } from './frontend.ts';
import type { GuestMemory } from './guest-memory.ts';
import {
  config,
  memoryTable,
  PROTOCOL_F,
  REQUEST,
  singleRegion,
  u64,
  VHOST_USER_F_PROTOCOL_FEATURES,
  vringAddress,
  vringState,
} from './messages.ts';
import type { EventCounter } from './shared-descriptors.ts';
import type { Virtqueue } from './virtqueue.ts';

/** Feature bits of virtio-blk and of the ring. */
export const FEATURE = {
  SIZE_MAX: 1n << 1n,
  SEG_MAX: 1n << 2n,
  RO: 1n << 5n,
  BLK_SIZE: 1n << 6n,
  FLUSH: 1n << 9n,
  TOPOLOGY: 1n << 10n,
  CONFIG_WCE: 1n << 11n,
  MQ: 1n << 12n,
  DISCARD: 1n << 13n,
  WRITE_ZEROES: 1n << 14n,
  INDIRECT_DESC: 1n << 28n,
  EVENT_IDX: 1n << 29n,
  VERSION_1: 1n << 32n,
} as const;

/** The length of struct virtio_blk_config up to write_zeroes_may_unmap and its padding. */
export const CONFIG_LENGTH = 60;

/** Takes all features that are offered but `without`, and says so. */
export async function negotiate(
  frontend: Frontend,
  without = 0n,
): Promise<{ features: bigint; protocolFeatures: bigint }> {
  const features = (await frontend.askNumber(REQUEST.GET_FEATURES)) & ~without;
  const wanted =
    PROTOCOL_F.MQ | PROTOCOL_F.REPLY_ACK | PROTOCOL_F.CONFIG | PROTOCOL_F.CONFIGURE_MEM_SLOTS;
  const protocolFeatures = (await frontend.askNumber(REQUEST.GET_PROTOCOL_FEATURES)) & wanted;
  frontend.send(REQUEST.SET_PROTOCOL_FEATURES, u64(protocolFeatures));
  frontend.send(REQUEST.SET_OWNER);
  frontend.send(REQUEST.SET_FEATURES, u64(features & ~VHOST_USER_F_PROTOCOL_FEATURES));
  return { features, protocolFeatures };
}

export async function shareMemory(
  frontend: Frontend,
  memory: GuestMemory,
  table = false,
): Promise<void> {
  const { regions } = memory;
  if (table) {
    const descriptors = regions.map(({ fd }) => fd);
    await frontend.acknowledged(REQUEST.SET_MEM_TABLE, memoryTable(regions), descriptors);
    return;
  }
  for (const region of regions) {
    await frontend.acknowledged(REQUEST.ADD_MEM_REG, singleRegion(region), [region.fd]);
  }
}

/** Sets up and enables a ring; resolves once the backend has taken it up. */
export async function startRing(
  frontend: Frontend,
  queue: Virtqueue,
  { kick, call }: { readonly kick: EventCounter; readonly call: EventCounter },
): Promise<void> {
  const { index, memory } = queue;
  const ring = {
    descriptors: memory.userAddress(queue.descriptors),
    used: memory.userAddress(queue.used),
    available: memory.userAddress(queue.available),
  };
  frontend.send(REQUEST.SET_VRING_CALL, u64(index), { descriptors: [call.fd] });
  frontend.send(REQUEST.SET_VRING_NUM, vringState(index, queue.size));
  frontend.send(REQUEST.SET_VRING_BASE, vringState(index, queue.nextAvailable));
  frontend.send(REQUEST.SET_VRING_ADDR, vringAddress(index, ring));
  frontend.send(REQUEST.SET_VRING_KICK, u64(index), { descriptors: [kick.fd] });
  await frontend.acknowledged(REQUEST.SET_VRING_ENABLE, vringState(index, 1));
}

/** Bytes of the device's configuration from the start; undefined when the backend refuses. */
export async function readConfig(
  frontend: Frontend,
  length = CONFIG_LENGTH,
): Promise<Buffer | undefined> {
  const { payload } = await frontend.ask(REQUEST.GET_CONFIG, config(0, Buffer.alloc(length)));
  return payload.length === 0 ? undefined : payload.subarray(12, 12 + length);
}
