// Requests that are larger than what a daemon may want to hold of them at a time.

import { describe, expect, it } from 'vitest';
import { startDevice } from './device.ts';
import { numbered, serveDisk, sides } from './serve.ts';
import { BLK_S, BLK_T } from './virtio-blk.ts';

const MIB = 1024 * 1024;

describe.each(sides)('large requests: $name', (side) => {
  const test = it.skipIf(side.missing !== undefined);

  test.each([{ sealed: true }, { sealed: false }])(
    'are served whole (sealed: $sealed)',
    async (memory) => {
      const { socket, image } = await serveDisk(side, { image: numbered(8 * MIB) });
      const { disk } = await startDevice(socket, {
        memory: { ...memory, lengths: [16 * MIB] },
      });
      const length = MIB + 300 * 1024;
      const pieces = [100, MIB - 100, 4096];
      const read = await disk.submit({ type: BLK_T.IN, sector: 8, inLength: length, pieces });
      expect(read.status).toBe(BLK_S.OK);
      expect(read.in.equals(image().subarray(4096, 4096 + length))).toBe(true);
      const data = Buffer.from(numbered(length)).reverse();
      const written = await disk.submit({ type: BLK_T.OUT, sector: 16, out: data, pieces });
      expect(written.status).toBe(BLK_S.OK);
      expect(
        image()
          .subarray(8192, 8192 + length)
          .equals(data),
      ).toBe(true);
      expect(image().subarray(0, 8192).equals(numbered(8192))).toBe(true);
    },
  );
});
