// Pulls from and pushes to a channel as its owner does.

import { type ByteChannel, WOULD_BLOCK } from '../../src/net/byte-channel.ts';
import { allocate } from '../../src/sys/memory.ts';

const memory = allocate(64 * 1024);

/** All that the channel has to receive, up to `length` bytes. */
export async function received(channel: ByteChannel, length: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let missing = length;
  await new Promise<void>((resolve) => {
    channel.onReadable = () => {
      for (;;) {
        const count = missing === 0 ? 0 : channel.receive(memory, 0, Math.min(missing, 4096));
        if (count === WOULD_BLOCK) return;
        if (count === 0) {
          channel.wantReadable(false);
          resolve();
          return;
        }
        parts.push(Buffer.from(memory.bytes.subarray(0, count)));
        missing -= count;
      }
    };
    channel.wantReadable(true);
  });
  return Buffer.concat(parts);
}

/** Sends as the owner of a channel does: until it would block, then when it is told. */
export async function sent(channel: ByteChannel, bytes: Buffer): Promise<void> {
  let at = 0;
  await new Promise<void>((resolve) => {
    const go = () => {
      while (at < bytes.length) {
        const length = bytes.copy(memory.bytes, 0, at, at + 50_000);
        const taken = channel.send(memory, 0, length);
        if (taken === WOULD_BLOCK) {
          channel.wantWritable(true);
          return;
        }
        at += taken;
      }
      channel.wantWritable(false);
      resolve();
    };
    channel.onWritable = go;
    go();
  });
}
