// Names of NBD disks. What the reference makes of such names is in the conformance area nbd-names.

import { describe, expect, it } from 'vitest';
import { isNbdFilename, nbdFileOptions } from '../../../src/block/nbd-filename.ts';

const inet = (host: string, port = '10809') => ({ type: 'inet', host, port });
const unix = (path: string) => ({ type: 'unix', path });

const good: readonly (readonly [string, object, string?])[] = [
  ['nbd:localhost:10', inet('localhost', '10')],
  ['nbd:127.0.0.1:10:exportname=a/b:c', inet('127.0.0.1', '10'), 'a/b:c'],
  ['nbd::10', inet('', '10')],
  ['nbd:[::1]:10', inet('::1', '10')],
  ['nbd:h:10,ipv4=on', inet('h', '10')],
  ['nbd:unix:/a/b', unix('/a/b')],
  ['nbd:unix:/a:b:exportname=x', unix('/a:b'), 'x'],
  ['nbd://h', inet('h')],
  ['nbd://h/', inet('h')],
  ['nbd://h:0/', inet('h')],
  ['nbd://h:65535/a/b', inet('h', '65535'), 'a/b'],
  ['nbd://u:p@h/x', inet('h'), 'x'],
  ['nbd://h//x', inet('h'), '/x'],
  ['nbd://h/%41%c3%a9', inet('h'), 'Aé'],
  ['nbd://h/x#y', inet('h'), 'x'],
  ['nbd+tcp://[::1]:10/x', inet('::1', '10'), 'x'],
  ['nbd+unix:///?socket=/a', unix('/a')],
  ['nbd+unix://?socket=/a', unix('/a')],
  ['nbd+unix:///x?socket=/a%20b', unix('/a b'), 'x'],
  ['nbd+unix:///x?socket=a;&', unix('a;'), 'x'],
  ['nbd+unix:/x?socket=/a://b', unix('/a://b'), 'x'],
];

const named = good.map(([filename, server, name]) => ({ filename, server, name }));

const invalid = [
  'nbd://',
  'nbd:///x',
  'nbd://h:/x',
  'nbd://h:65536/x',
  'nbd://h/?a=b',
  'nbd://h/a b',
  'nbd://h/%4',
  'nbd://[::1/x',
  'nbd:unix:/a://b',
  'nbd+unix:///x',
  'nbd+unix:///x?socket',
  'nbd+unix:///x?path=/a',
  'nbd+unix:///x?socket=/a&b=c',
  'nbd+unix://h/x?socket=/a',
  'nbd+unix://:5/x?socket=/a',
];

const refused: readonly (readonly [string, string])[] = [
  ['nbd:', 'NBD server address missing'],
  ['nbd:h:10:exportname=', 'NBD server address missing'],
  ['nbd+tcp:h:10', "File name string for NBD must start with 'nbd:'"],
  ['nbd:h', "error parsing address 'h'"],
  ['nbd::', "error parsing port in address ':'"],
  ['nbd:[::1]10', "error parsing IPv6 address '[::1]10'"],
];

describe('nbdFileOptions', () => {
  it.each(named)('$filename', ({ filename, server, name }) => {
    expect(nbdFileOptions(filename)).toEqual({
      driver: 'nbd',
      server,
      ...(name === undefined ? {} : { export: name }),
    });
  });

  it.each(invalid)('refuses %s', (filename) => {
    expect(() => nbdFileOptions(filename)).toThrow('No valid URL specified');
  });

  it.each(refused)('refuses %s', (filename, text) => {
    expect(() => nbdFileOptions(filename)).toThrow(text);
  });
});

describe('isNbdFilename', () => {
  it('goes by what is before the colon', () => {
    expect(['nbd:', 'nbd+tcp:x', 'nbd+unix:x'].every(isNbdFilename)).toBe(true);
    expect(['nbd', 'nbds://h', 'NBD:x', 'x:nbd:', ''].some(isNbdFilename)).toBe(false);
  });
});
