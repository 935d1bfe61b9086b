import { execFileSync } from 'node:child_process';
import { closeSync, readSync, writeSync } from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { openPseudoTerminal } from '../../../../src/sys/terminal.ts';
import { addOptions, attached, filenames, logged, registry } from './registry-fixture.ts';

function terminal(): { readonly fd: number; readonly path: string } {
  const opened = openPseudoTerminal();
  onTestFinished(() => closeSync(opened.fd));
  execFileSync('stty', ['-F', opened.path, 'cooked', 'echo', '9600', 'cstopb', 'crtscts']);
  return opened;
}

describe('serial', () => {
  it('passes bytes on as they are', async () => {
    const { fd, path } = terminal();
    await registry.add('c', { type: 'serial', data: { device: path } });
    const { chardev, listener } = attached('c');
    writeSync(fd, 'a\r\x03\x04\xff', null, 'latin1');
    await listener.until('open|a\r\x03\x04\xff');
    chardev.write(Buffer.from('b\n\x11\x13'));
    const heard = Buffer.alloc(10);
    expect(heard.toString('latin1', 0, readSync(fd, heard))).toBe('b\n\x11\x13');
  });

  it('sets the line', async () => {
    const { path } = terminal();
    await registry.add('c', { type: 'serial', data: { device: path } });
    const modes = execFileSync('stty', ['-F', path, '-a'], { encoding: 'latin1' });
    expect(modes).toMatch(/^speed 115200 baud/);
    const changed =
      'cs8 -parenb -cstopb -crtscts -icrnl -ixon -opost -isig -icanon -iexten -echo -echonl';
    for (const mode of changed.split(' ')) expect(modes.split(/[\s;]+/)).toContain(mode);
  });

  it('has a former name, which is warned of once', async () => {
    await addOptions('tty,c', { path: '/dev/null' });
    await addOptions('tty,d', { path: '/dev/null' });
    expect(filenames().sort()).toEqual(['c serial', 'd serial']);
    expect(logged).toEqual(["The alias 'tty' is deprecated, use 'serial' instead"]);
  });
});
