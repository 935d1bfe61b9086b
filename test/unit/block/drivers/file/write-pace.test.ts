import { describe, expect, it } from 'vitest';
import { WritePace } from '../../../../../src/block/drivers/file/write-pace.ts';

describe('WritePace', () => {
  it('allows writes for as long as they are fast', () => {
    const pace = new WritePace();
    for (let now = 0; now < 100; now++) {
      expect(pace.allows(now)).toBe(true);
      pace.note(now, now + 0.5);
    }
  });

  it('thinks nothing of a slow write now and then', () => {
    const pace = new WritePace();
    let now = 0;
    for (let n = 0; n < 20; n++) {
      pace.note(now, (now += 5));
      for (let fast = 0; fast < 100; fast++) pace.note(now, (now += 0.01));
      expect(pace.allows(now)).toBe(true);
    }
  });

  it('stays away after one that waited long, and after several that waited a little', () => {
    const one = new WritePace();
    one.note(0, 100);
    expect(one.allows(105)).toBe(false);
    expect(one.allows(110)).toBe(true);
    const several = new WritePace();
    several.note(0, 4);
    several.note(4, 8);
    expect(several.allows(8)).toBe(true);
    several.note(8, 12);
    expect(several.allows(12)).toBe(false);
  });

  it('stays away twice as long each time, up to a second, until writes are fast again', () => {
    const pace = new WritePace();
    let now = 0;
    const pauses = Array.from({ length: 9 }, () => {
      pace.note(now, (now += 2));
      while (pace.allows(now)) pace.note(now, (now += 2));
      const begin = now;
      while (!pace.allows(now)) now++;
      return now - begin;
    });
    expect(pauses).toEqual([10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
    for (let n = 0; n < 1000; n++) pace.note(now, now);
    pace.note(now, (now += 100));
    expect(pace.allows(now + 9)).toBe(false);
    expect(pace.allows(now + 10)).toBe(true);
  });
});
