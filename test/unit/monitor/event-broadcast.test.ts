import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { EventBroadcast } from '../../../src/monitor/event-broadcast.ts';
import type { QmpMessage } from '../../../src/monitor/request.ts';

const NAME = 'BLOCK_EXPORT_DELETED';

function listening(broadcast: EventBroadcast): QmpMessage[] {
  const seen: QmpMessage[] = [];
  broadcast.add({ event: (message) => seen.push(message) });
  return seen;
}

describe('EventBroadcast', () => {
  it('gives every listener the same event with the same time', () => {
    const broadcast = new EventBroadcast();
    const [first, second] = [listening(broadcast), listening(broadcast)];
    const before = Math.floor(Date.now() / 1000);
    broadcast.emit(NAME, { id: 'e' });
    const { timestamp } = first[0] ?? expect.unreachable();
    const { seconds, microseconds } = timestamp as Record<string, number>;
    expect(seconds).toBeGreaterThanOrEqual(before);
    expect(microseconds).toBeLessThan(1_000_000);
    expect(first).toEqual([
      { timestamp: { seconds, microseconds }, event: NAME, data: { id: 'e' } },
    ]);
    expect(second).toEqual(first);
  });

  it('forgets a listener that is removed', () => {
    const broadcast = new EventBroadcast();
    const listener = { event: () => expect.unreachable() };
    broadcast.add(listener);
    broadcast.remove(listener);
    broadcast.emit(NAME, { id: 'e' });
  });
});

describe('EventBroadcast with an event that is limited in rate', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });
  const ids = (seen: readonly QmpMessage[]) => seen.map(({ data }) => (data as { id: string }).id);

  it('sends the first at once and the last of the others when the time is over', () => {
    const broadcast = new EventBroadcast({ [NAME]: 1000 });
    const seen = listening(broadcast);
    for (const id of ['a', 'b', 'c']) broadcast.emit(NAME, { id });
    expect(ids(seen)).toEqual(['a']);
    vi.advanceTimersByTime(1000);
    expect(ids(seen)).toEqual(['a', 'c']);
    broadcast.emit(NAME, { id: 'd' });
    vi.advanceTimersByTime(999);
    expect(ids(seen)).toEqual(['a', 'c']);
    vi.advanceTimersByTime(1);
    expect(ids(seen)).toEqual(['a', 'c', 'd']);
    vi.advanceTimersByTime(1000);
    broadcast.emit(NAME, { id: 'e' });
    expect(ids(seen)).toEqual(['a', 'c', 'd', 'e']);
  });

  it('drops what is held back when it is closed', () => {
    const broadcast = new EventBroadcast({ [NAME]: 1000 });
    const seen = listening(broadcast);
    for (const id of ['a', 'b']) broadcast.emit(NAME, { id });
    broadcast.close();
    vi.advanceTimersByTime(5000);
    expect(ids(seen)).toEqual(['a']);
  });
});
