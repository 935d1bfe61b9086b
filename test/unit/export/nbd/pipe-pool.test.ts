import { describe, expect, it, onTestFinished } from 'vitest';
import type { DataPipe } from '../../../../src/base/data-pipe.ts';
import { errno } from '../../../../src/base/errno.ts';
import { IoError } from '../../../../src/base/errors.ts';
import { PipePool } from '../../../../src/export/nbd/pipe-pool.ts';
import { allocate } from '../../../../src/sys/memory.ts';
import { KernelPipe } from '../../../../src/sys/pipe.ts';

const MOST = 32;
const LENGTH = 256 * 1024;
const memory = allocate(4096);

function makePool() {
  const state = { opened: 0, now: 0, refuses: false };
  const pool = new PipePool({
    open: (onRelease) => {
      if (state.refuses) throw new IoError(errno.EPERM, { syscall: 'fcntl' });
      state.opened++;
      return new KernelPipe(4096, onRelease);
    },
    now: () => state.now,
  });
  onTestFinished(() => pool.trim());
  const takeAll = (): DataPipe[] => {
    const pipes: DataPipe[] = [];
    for (;;) {
      const pipe = pool.take(LENGTH, 0);
      if (pipe === undefined) return pipes;
      pipes.push(pipe);
    }
  };
  return { pool, state, takeAll };
}

describe('PipePool', () => {
  it('gives the same pipe again, once it is released', () => {
    const { pool, state } = makePool();
    const pipe = pool.take(LENGTH, 0);
    pipe?.release();
    expect(pool.take(LENGTH, 0)).toBe(pipe);
    expect(state.opened).toBe(1);
    pipe?.release();
  });

  it('has no more than so many', () => {
    const { pool, takeAll } = makePool();
    const pipes = takeAll();
    expect(pipes).toHaveLength(MOST);
    pipes[3]?.release();
    expect(pool.take(LENGTH, 0)).toBe(pipes[3]);
    expect(pool.take(LENGTH, 0)).toBeUndefined();
    for (const pipe of pipes) pipe.release();
  });

  it('gives nobody what somebody else has left in one', () => {
    const { pool, takeAll } = makePool();
    const pipes = takeAll();
    pipes[0]?.put(memory, 0, 10);
    for (const pipe of pipes) pipe.release();
    const again = takeAll();
    expect(again).toHaveLength(MOST);
    expect(again).not.toContain(pipes[0]);
    for (const pipe of again) {
      expect(pipe.length).toBe(0);
      pipe.release();
    }
    expect(pool.take(LENGTH, 0)?.release()).toBeUndefined();
  });

  it('does not ask again at once for what it was refused', () => {
    const { pool, state } = makePool();
    state.refuses = true;
    expect(pool.take(LENGTH, 0)).toBeUndefined();
    state.refuses = false;
    expect(pool.take(LENGTH, 0)).toBeUndefined();
    state.now = 10_000;
    const pipe = pool.take(LENGTH, 0);
    expect(pipe).toBeDefined();
    pipe?.release();
  });

  it('goes on with those it has while it is refused more', () => {
    const { pool, state } = makePool();
    const first = pool.take(LENGTH, 0);
    state.refuses = true;
    expect(pool.take(LENGTH, 0)).toBeUndefined();
    first?.release();
    expect(pool.take(LENGTH, 0)).toBe(first);
    first?.release();
  });

  it('has none for small data, nor for more than surely fit', () => {
    const { pool } = makePool();
    expect(pool.take(64 * 1024 - 1, 0)).toBeUndefined();
    expect(pool.take(512 * 1024 + 1, 0)).toBeUndefined();
    for (const length of [64 * 1024, 512 * 1024]) {
      const pipe = pool.take(length, 0);
      expect(pipe).toBeDefined();
      pipe?.release();
    }
  });

  it('leaves some to others once half of them are in use', () => {
    const { pool } = makePool();
    const pipes: (DataPipe | undefined)[] = [];
    for (let at = 0; at < MOST / 2; at++) pipes.push(pool.take(LENGTH, at * LENGTH));
    expect(pipes).not.toContain(undefined);
    expect(pool.take(LENGTH, 4 * LENGTH)).toBeUndefined();
    pipes.push(pool.take(LENGTH, 3 * LENGTH));
    expect(pipes.at(-1)).toBeDefined();
    for (const pipe of pipes) pipe?.release();
    expect(pool.take(LENGTH, 16 * LENGTH)).toBeUndefined();
  });
});
