import { describe, expect, it } from 'vitest';
import { detachLater, mountLater, mountTable, parseMountTable } from '../../../src/sys/mount.ts';

describe('parseMountTable', () => {
  const parse = (text: string) => parseMountTable(Buffer.from(text, 'latin1'));

  it('reads lines with and without optional fields', () => {
    const text = [
      '36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue',
      '43 27 0:40 / /tmp/b rw,nosuid,nodev - fuse /dev/fuse rw,user_id=0',
      '',
    ].join('\n');
    expect(parse(text)).toEqual([
      { id: 36, target: '/mnt2', type: 'ext3', source: '/dev/root' },
      { id: 43, target: '/tmp/b', type: 'fuse', source: '/dev/fuse' },
    ]);
  });

  it('undoes the escapes of names, which are UTF-8', () => {
    const name = Buffer.from('ä').toString('latin1');
    const [entry] = parse(`1 0 0:1 / /a\\040b\\011\\012\\134${name} rw - fuse a\\040b rw\n`);
    expect(entry).toEqual({ id: 1, target: '/a b\t\n\\ä', type: 'fuse', source: 'a b' });
  });

  it('leaves out what is no such line', () => {
    expect(parse('x\n1 2 3\n1 0 0:1 / /a rw fuse x rw\n - \n')).toEqual([]);
  });
});

describe('mounts', () => {
  it('are listed, that of /proc among them', async () => {
    const table = await mountTable();
    expect(table.some(({ target }) => target === '/proc')).toBe(true);
    expect(new Set(table.map(({ id }) => id)).size).toBe(table.length);
  });

  it('answer with an errno when they fail', async () => {
    const request = { source: 'x', target: '/nonexistent', type: 'fuse', options: '' };
    expect(await mountLater(request)).toBeLessThan(0);
    expect(await detachLater('/nonexistent')).toBeLessThan(0);
  });
});
