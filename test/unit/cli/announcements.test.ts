import { describe, expect, it } from 'vitest';
import { createAnnouncements } from '../../../src/cli/announcements.ts';

function started(terminal: boolean) {
  const written: string[] = [];
  const announcements = createAnnouncements(
    (text) => written.push(text),
    () => terminal,
  );
  return { announcements, written };
}

describe('announcements', () => {
  it('are shown on a terminal at once', () => {
    const { announcements, written } = started(true);
    announcements.print('one\n');
    expect(written).toEqual(['one\n']);
    announcements.release();
    expect(written).toEqual(['one\n']);
  });

  it('elsewhere wait until they are released', () => {
    const { announcements, written } = started(false);
    announcements.print('one\n');
    announcements.print('two\n');
    expect(written).toEqual([]);
    announcements.release();
    expect(written).toEqual(['one\ntwo\n']);
    announcements.release();
    expect(written).toHaveLength(1);
  });

  it('do not wait where they must not, nor does what came before', () => {
    const { announcements, written } = started(false);
    announcements.print('one\n');
    announcements.printNow('two\n');
    expect(written).toEqual(['one\ntwo\n']);
    announcements.release();
    expect(written).toHaveLength(1);
  });
});
