// Whether a daemon is well after whatever was done to it.

import { expect } from 'vitest';
import { memfdMappings, openDescriptors } from '../../helpers/descriptors.ts';
import { startDevice } from './device.ts';
import type { ServedDisk } from './serve.ts';
import { BLK_S, SECTOR } from './virtio-blk.ts';

/** What a daemon holds for its frontend, and all that it has not let go of before. */
export interface Held {
  readonly descriptors: number;
  readonly mappings: number;
}

/** That the next frontend is served as ever; what the daemon holds while it is there. */
export async function served(disk: ServedDisk): Promise<Held> {
  const device = await startDevice(disk.socket);
  try {
    expect((await device.disk.read(0, SECTOR)).status).toBe(BLK_S.OK);
    const { pid } = disk.daemon;
    return { descriptors: openDescriptors(pid), mappings: memfdMappings(pid) };
  } finally {
    device.close();
  }
}
