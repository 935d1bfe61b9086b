// The expected orders were seen in qom-list answers of the reference, which lists children in reverse.
import { describe, expect, it } from 'vitest';
import { GlibStringSet } from '../../../src/base/glib-hash-table.ts';

const listed = (set: GlibStringSet) => [...set].reverse().join(' ');

describe('GlibStringSet', () => {
  it('walks few keys as GLib does', () => {
    expect(listed(new GlibStringSet(['s0', 'k0', 'z0', 'l0']))).toBe('z0 k0 s0 l0');
    expect(listed(new GlibStringSet(['chardevs', 'objects']))).toBe('objects chardevs');
  });

  it('walks many keys as GLib does, and still when every other one is gone and others have come', () => {
    const names = Array.from({ length: 20 }, (_, n) => `k${n}`);
    const set = new GlibStringSet(names);
    expect(listed(set)).toBe(
      'k19 k4 k16 k1 k13 k10 k9 k6 k18 k3 k15 k0 k12 k8 k5 k17 k2 k14 k11 k7',
    );
    const remove = (from: number) => {
      for (let n = from; n < 20; n += 2) set.delete(`k${n}`, { walking: true });
    };
    remove(0);
    expect(listed(set)).toBe('k19 k1 k13 k9 k3 k15 k5 k17 k11 k7');
    for (const name of ['alpha', 'beta.gamma', 'x-y_z']) set.add(name);
    expect(listed(set)).toBe('k19 k1 k13 k9 k3 k15 beta.gamma x-y_z alpha k5 k17 k11 k7');
    remove(1);
    expect(listed(set)).toBe('beta.gamma x-y_z alpha');
  });

  it('remembers keys that came and went', () => {
    const set = new GlibStringSet(['s0', 'k0', 'z0', 'l0']);
    set.delete('s0', { walking: true });
    set.add('s0');
    const tried = (name: string, times: number) => {
      for (let time = 0; time < times; time++) {
        set.add(name);
        set.delete(name);
      }
      set.add(name);
    };
    tried('s1', 5);
    tried('s2', 0);
    tried('s3', 0);
    tried('s4', 8);
    for (const name of ['s5', 's7', 's8']) set.add(name);
    expect(listed(set)).toBe('k0 l0 s3 z0 s4 s5 s0 s7 s1 s8 s2');
  });

  it('holds each key once', () => {
    const set = new GlibStringSet(['a', 'a']);
    expect(set.size).toBe(1);
    expect(set.delete('a')).toBe(true);
    expect(set.delete('a')).toBe(false);
    expect([...set]).toEqual([]);
  });
});
