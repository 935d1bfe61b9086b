// Whether a daemon is well after whatever was done to it.

import { expect } from 'vitest';
import { openDescriptors } from '../../helpers/descriptors.ts';
import { startDevice } from './device.ts';
import type { ServedDisk } from './serve.ts';
import { BLK_S, SECTOR } from './virtio-blk.ts';

/** That the next frontend is served as ever; how many descriptors the daemon has while it is there. */
export async function served(disk: ServedDisk): Promise<number> {
  const device = await startDevice(disk.socket);
  try {
    expect((await device.disk.read(0, SECTOR)).status).toBe(BLK_S.OK);
    return openDescriptors(disk.daemon.pid);
  } finally {
    device.close();
  }
}
