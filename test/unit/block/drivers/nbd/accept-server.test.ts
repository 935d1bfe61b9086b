import { describe, expect, it } from 'vitest';
import { acceptServer } from '../../../../../src/block/drivers/nbd/accept-server.ts';
import type { ServerInfo } from '../../../../../src/block/drivers/nbd/negotiation.ts';
import type { NbdOptions } from '../../../../../src/block/drivers/nbd/options.ts';
import { ALL_FLAGS, clientOf } from './scripted-server.ts';

const READ_ONLY = 2;

const before: ServerInfo = {
  size: 1 << 20,
  flags: ALL_FLAGS,
  headers: 'extended',
  minBlock: 512,
  optBlock: 4096,
  maxBlock: 65_536,
  contextId: 7,
};

const wanted = (dirtyBitmap?: string): NbdOptions => ({
  target: {
    address: { type: 'unix', path: '' },
    fdsByNumber: false,
    wish: { name: Buffer.alloc(0), context: Buffer.from('base:allocation'), tls: false },
    tls: undefined,
  },
  dirtyBitmap,
  reconnectDelay: 0,
  openTimeout: 0,
});

/** What is wrong with a server that offers this after it offered `before`. */
async function wrong(now: Partial<ServerInfo>, bitmap?: string): Promise<string | undefined> {
  const { node } = await clientOf({});
  try {
    acceptServer(node, wanted(bitmap), { ...before, ...now }, before);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

describe('acceptServer, after a reconnection', () => {
  it.each<readonly [string, Partial<ServerInfo>]>([
    ['the same', {}],
    ['more bytes', { size: 2 << 20 }],
    ['smaller blocks', { minBlock: 1 }],
    ['larger requests', { maxBlock: 2 << 20 }],
    ['another context id', { contextId: 8 }],
    ['no flush, nor trim', { flags: ALL_FLAGS & ~0x24 }],
    ['no status', { contextId: undefined }],
  ])('takes %s', async (_, now) => {
    expect(await wrong(now)).toBeUndefined();
  });

  it.each<readonly [string, Partial<ServerInfo>]>([
    ['fewer bytes', { size: (1 << 20) - 512 }],
    ['larger blocks', { minBlock: 4096 }],
    ['smaller requests', { maxBlock: 32_768 }],
    ['no extended headers', { headers: 'structured' }],
    ['no FUA', { flags: ALL_FLAGS & ~8 }],
    ['no way to write zeroes', { flags: ALL_FLAGS & ~0x40 }],
    ['no way to write zeroes fast', { flags: ALL_FLAGS & ~0x800 }],
  ])('refuses %s', async (_, now) => {
    expect(await wrong(now)).toBe('The server offers less than before');
  });

  it('refuses an export that has become read-only', async () => {
    expect(await wrong({ flags: ALL_FLAGS | READ_ONLY })).toMatch(/\(EACCES\)$/);
  });

  it('refuses an export without the bitmap that is asked for', async () => {
    expect(await wrong({ contextId: undefined }, 'qemu:dirty-bitmap:b')).toMatch(/\(EINVAL\)$/);
  });
});
