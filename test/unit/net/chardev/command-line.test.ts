import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { addOptions, directory, filenames, registry } from './registry-fixture.ts';

describe('addFromCommandLine', () => {
  it.each([
    ['null', {}, 'chardev: no id specified'],
    [',c', {}, 'chardev: "c" missing backend'],
    ['nope,c', {}, "'nope' is not a valid char driver name"],
    ['constructor,c', {}, "'constructor' is not a valid char driver name"],
    ['__proto__,c', {}, "'__proto__' is not a valid char driver name"],
    ['fd,c', {}, "Parameter 'driver' expects a non-abstract device type"],
    ['socket,c', {}, 'Unable to parse FD number '],
    ['socket,c', { fd: '55' }, "File descriptor '55' is not a socket"],
    [
      'socket,c',
      { path: 'x', host: 'y' },
      "None or one of 'path', 'fd' or 'host' option required.",
    ],
    ['socket,c', { host: 'y' }, 'chardev: socket: no port given'],
    [
      'socket,c',
      { path: '/nonexistent/x', server: 'on' },
      'Failed to bind socket to /nonexistent/x: No such file or directory',
    ],
    [
      'socket,c',
      { path: '/nonexistent/x' },
      "Failed to connect to '/nonexistent/x': No such file or directory",
    ],
    [
      'socket,c',
      { path: 'x', delay: 'on', nodelay: 'on' },
      "'delay' and 'nodelay' are mutually exclusive",
    ],
    // The reference waits for ever.
    ['socket,c', { server: 'on' }, 'There is no address to wait for a peer at'],
    ['file,c', {}, 'chardev: file: no filename given'],
    ['pipe,c', {}, 'chardev: pipe: no device path given'],
    ['ringbuf,c', { size: '3' }, 'size of ringbuf chardev must be power of two'],
    ['mux,c', {}, 'chardev: mux: no chardev given'],
    ['mux,c', { chardev: 'nope' }, 'mux: base chardev nope not found'],
  ] as const)('refuses %s %j', async (kindAndId, options, text) => {
    await expect(addOptions(kindAndId, options)).rejects.toThrow(text);
  });

  it('reports a second chardev of one id as the reference does', async () => {
    await addOptions('null,c', {});
    await expect(addOptions('null,c', {})).rejects.toThrow(
      "attempt to add duplicate property 'c' to object (type 'container')",
    );
  });

  it('makes sockets clients, and makes servers wait', async () => {
    const path = join(directory, 's');
    const server = addOptions('socket,c', { path, server: 'on' });
    while (!existsSync(path)) await new Promise((f) => setImmediate(f));
    await addOptions('socket,d', { path });
    await server;
    expect(filenames().sort()).toEqual([`c unix:${path},server=on`, 'd unix:']);
  });

  it('reads sizes with suffixes', async () => {
    await addOptions('ringbuf,c', { size: '1k' });
    registry.ringbuf('c').write(Buffer.alloc(2000));
    expect(registry.ringbuf('c').read(5000).length).toBe(1024);
  });
});
