// When requests leave, and what becomes of them when a connection ends amid replies.

import { describe, expect, it } from 'vitest';
import { errno } from '../../../../../src/base/errno.ts';
import { IoError } from '../../../../../src/base/errors.ts';
import { ClientRequest } from '../../../../../src/block/drivers/nbd/client-request.ts';
import { NbdConnection } from '../../../../../src/block/drivers/nbd/connection.ts';
import type { Headers } from '../../../../../src/block/drivers/nbd/negotiation.ts';
import { allocate, ioBufferOver } from '../../../../../src/sys/memory.ts';
import { MemoryChannel } from '../../../export/nbd/memory-channel.ts';
import { chunk, simple } from './server-bytes.ts';

const HEADER = 28;
const LARGE = 128 * 1024;
const buffer = ioBufferOver(Buffer.alloc(LARGE));

function writeOf(length: number, completed: (error: unknown) => void = () => {}): ClientRequest {
  return new ClientRequest({ type: 1, flags: 0, offset: 0, length, buffer }, { completed });
}

function connectionOver(
  channel: MemoryChannel,
  on: Partial<Pick<ConstructorParameters<typeof NbdConnection>[0], 'onRoom' | 'onEnd'>> = {},
  headers: Headers = 'simple',
): NbdConnection {
  const info = {
    size: 1 << 20,
    flags: 1,
    headers,
    contextId: undefined,
    minBlock: 0,
    optBlock: 0,
    maxBlock: 0,
  } as const;
  return new NbdConnection({ channel, info, allocate, onRoom() {}, onEnd() {}, ...on });
}

const cookieOf = (request: Buffer): Buffer => request.subarray(8, 16);

describe('NbdConnection', () => {
  it('sends requests that are made in one go together, and large data at once', async () => {
    const channel = new MemoryChannel();
    const connection = connectionOver(channel);
    connection.submit(writeOf(512));
    connection.submit(writeOf(512));
    expect(channel.sent).toEqual([]);
    connection.submit(writeOf(LARGE));
    expect(channel.sent.map(({ length }) => length)).toEqual([2 * (HEADER + 512) + HEADER, LARGE]);
    connection.submit(writeOf(512));
    expect(channel.sent).toHaveLength(2);
    await Promise.resolve();
    expect(channel.sent.at(-1)).toHaveLength(HEADER + 512);
  });

  it('takes every reply that is there before it ends', async () => {
    const channel = new MemoryChannel();
    const unanswered: ClientRequest[] = [];
    const last = writeOf(LARGE);
    let isFirst = true;
    const connection = connectionOver(channel, {
      onRoom: () => {
        if (!isFirst) return;
        isFirst = false;
        channel.send = () => {
          throw new IoError(errno.EPIPE, { syscall: 'send' });
        };
        connection.submit(last);
      },
      onEnd: (end, requests) => {
        expect(end.why).toBe('lost');
        unanswered.push(...requests);
      },
    });
    const ends: unknown[] = [];
    const requests = [1, 2].map(() => writeOf(512, (error) => ends.push(error)));
    for (const request of requests) connection.submit(request);
    await Promise.resolve();
    const bytes = Buffer.concat(channel.sent);
    const cookies = [cookieOf(bytes), cookieOf(bytes.subarray(HEADER + 512))];
    channel.incoming = Buffer.concat(cookies.map((cookie) => simple(cookie, 0)));
    channel.onReadable();
    expect(ends).toEqual([undefined, undefined]);
    await Promise.resolve();
    expect(unanswered).toEqual([last]);
  });

  it('is over before the request with the wrong reply fails, which may be made again then', async () => {
    const channel = new MemoryChannel();
    const order: string[] = [];
    const connection = connectionOver(
      channel,
      { onEnd: ({ why }, requests) => order.push(why, `${requests.length} unanswered`) },
      'structured',
    );
    connection.submit(writeOf(512, (error) => order.push(String(error))));
    connection.submit(writeOf(512));
    await Promise.resolve();
    const cookie = cookieOf(Buffer.concat(channel.sent));
    channel.incoming = chunk(cookie, { type: 99 });
    channel.onReadable();
    expect(order).toEqual(['fault', '1 unanswered', expect.stringMatching(/EINVAL/)]);
  });
});
