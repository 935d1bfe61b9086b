import { describe, expect, it } from 'vitest';
import { AdaptivePoll } from '../../../src/export/adaptive-poll.ts';
import { WOULD_BLOCK } from '../../../src/net/byte-channel.ts';

/** Answers WOULD_BLOCK so many times, then `result`; counts how often it was asked. */
function source(waits: number, result = 28) {
  const asked = { times: 0 };
  const attempt = (): number => (++asked.times > waits ? result : WOULD_BLOCK);
  return { asked, attempt };
}

describe('AdaptivePoll', () => {
  it('asks until there is an answer', () => {
    const { asked, attempt } = source(3);
    expect(new AdaptivePoll({ processors: 2 }).again(attempt)).toBe(28);
    expect(asked.times).toBe(4);
  });

  it('answers the end of the stream, too', () => {
    const { attempt } = source(1, 0);
    expect(new AdaptivePoll({ processors: 2 }).again(attempt)).toBe(0);
  });

  it('gives up', () => {
    const { attempt } = source(Infinity);
    expect(new AdaptivePoll({ processors: 2 }).again(attempt)).toBe(WOULD_BLOCK);
  });

  it('tries more and more seldom while it is in vain', () => {
    const poll = new AdaptivePoll({ processors: 2 });
    const tried: number[] = [];
    for (let chance = 0; chance < 20; chance++) {
      const { asked, attempt } = source(Infinity);
      poll.again(attempt);
      if (asked.times > 0) tried.push(chance);
    }
    expect(tried).toEqual([0, 2, 6, 14]);
  });

  it('tries each time again once it has paid', () => {
    const poll = new AdaptivePoll({ processors: 2 });
    poll.again(source(Infinity).attempt);
    poll.again(source(Infinity).attempt);
    for (let chance = 0; chance < 5; chance++) expect(poll.again(source(0).attempt)).toBe(28);
  });

  it('does nothing where the peer has no processor of its own', () => {
    const { asked, attempt } = source(0);
    expect(new AdaptivePoll({ processors: 1 }).again(attempt)).toBe(WOULD_BLOCK);
    expect(asked.times).toBe(0);
  });

  it('passes on what goes wrong', () => {
    const attempt = (): number => {
      throw new Error('Connection reset by peer');
    };
    expect(() => new AdaptivePoll({ processors: 2 }).again(attempt)).toThrow('reset');
  });
});
