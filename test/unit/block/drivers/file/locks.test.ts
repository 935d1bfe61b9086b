import { describe, expect, it } from 'vitest';
import {
  PERM_ALL,
  PERM_CONSISTENT_READ,
  PERM_RESIZE,
  PERM_WRITE,
} from '../../../../../src/block/block-driver.ts';
import type { BlockNode } from '../../../../../src/block/block-node.ts';
import { file } from '../../../../../src/block/drivers/file/file.ts';
import type { ImageFile } from '../../../../../src/block/drivers/file/image-file.ts';
import { openNode } from '../open-node.ts';
import { imageOf } from './image.ts';

describe('image locks', () => {
  const READ = PERM_CONSISTENT_READ;
  const BUT_WRITE = PERM_ALL & ~PERM_WRITE;

  function change(node: BlockNode<ImageFile>, perm: number, shared: number): void {
    file.checkPermissions?.(node, perm, shared);
    file.setPermissions?.(node, perm, shared);
  }

  async function two(options: { locking?: 'off' } = {}) {
    const filename = imageOf(4096);
    return {
      filename,
      first: await openNode(file, { filename }),
      second: await openNode(file, { filename, ...options }),
    };
  }

  it('keep a second writer off', async () => {
    const { filename, first, second } = await two();
    change(first, READ | PERM_WRITE, BUT_WRITE);
    const refusal = expect.objectContaining({
      message: 'Failed to get "write" lock',
      hint: `Is another process using the image [${filename}]?`,
    });
    expect(() => change(second, READ | PERM_WRITE, PERM_ALL)).toThrow(refusal);
    change(second, READ, PERM_ALL);
  });

  it('keep off who does not share what another has', async () => {
    const { first, second } = await two();
    change(first, READ | PERM_WRITE | PERM_RESIZE, PERM_ALL);
    expect(() => change(second, READ, BUT_WRITE)).toThrow('Failed to get shared "write" lock');
    expect(() => change(second, READ, PERM_ALL & ~PERM_RESIZE)).toThrow(
      'Failed to get shared "resize" lock',
    );
    change(second, READ, PERM_ALL);
  });

  it('are given up with the permission, and with the file', async () => {
    const { first, second } = await two();
    change(first, READ | PERM_WRITE, BUT_WRITE);
    change(first, READ, PERM_ALL);
    change(second, READ | PERM_WRITE, BUT_WRITE);
    await file.close?.(second);
    change(first, READ | PERM_WRITE, BUT_WRITE);
  });

  it('are as before after a refusal', async () => {
    const { first, second } = await two();
    change(first, READ, BUT_WRITE);
    expect(() => change(second, READ | PERM_WRITE, PERM_ALL & ~READ)).toThrow('"write" lock');
    expect(second.state.locks).toEqual({ perm: 0, unshared: 0 });
    change(first, READ | PERM_WRITE, PERM_ALL & ~PERM_RESIZE);
  });

  it('are as before when a change is called off', async () => {
    const { first, second } = await two();
    file.checkPermissions?.(first, READ | PERM_WRITE, BUT_WRITE);
    file.abortPermissions?.(first);
    expect(first.state.locks).toEqual({ perm: 0, unshared: 0 });
    change(second, READ | PERM_WRITE, BUT_WRITE);
  });

  it('move to the descriptor that replaces another', async () => {
    const filename = imageOf(4096);
    const auto = await openNode(file, { filename }, { settings: { autoReadOnly: true } });
    const other = await openNode(file, { filename });
    change(auto, READ, BUT_WRITE);
    change(auto, READ | PERM_WRITE, BUT_WRITE);
    expect(() => change(other, PERM_WRITE, PERM_ALL)).toThrow('Failed to get "write" lock');
    change(auto, READ, PERM_ALL);
    change(other, PERM_WRITE, PERM_ALL);
  });

  it('are neither taken nor heeded with locking off', async () => {
    const { first, second } = await two({ locking: 'off' });
    change(first, READ | PERM_WRITE, BUT_WRITE);
    change(second, READ | PERM_WRITE, 0);
    change(first, READ, BUT_WRITE);
  });
});
