import { beforeEach, describe, expect, it } from 'vitest';
import { parseQemuOpts, type QemuOptsList, qemuOptsHelp } from '../../../src/cli/qemu-opts.ts';

const list: QemuOptsList = {
  name: 'chardev',
  impliedKey: 'backend',
  options: {
    backend: 'str',
    path: 'str',
    server: 'bool',
    wait: 'bool',
    nodelay: 'bool',
    delay: 'bool',
    to: 'num',
    size: 'size',
  },
};

let warnings: string[] = [];
const log = {
  error() {},
  warn: (message: string, fields?: { readonly hint?: unknown }) =>
    void warnings.push(`${message}; ${String(fields?.hint)}`),
  debug() {},
};

const parse = (text: string) => {
  const opts = parseQemuOpts(text, list, log);
  if (opts === 'help') throw new Error('help');
  return opts;
};

beforeEach(() => {
  warnings = [];
});

describe('parseQemuOpts', () => {
  it('takes the implied key, the id and values with commas', () => {
    const opts = parse('socket,id=c,path=a,,b,server=on,path=z');
    expect(opts.id).toBe('c');
    expect(['backend', 'path', 'server', 'to'].map((name) => opts.get(name))).toEqual([
      'socket',
      'z',
      'on',
      undefined,
    ]);
  });

  it('takes words without a value for flags, and warns', () => {
    const opts = parse('socket,server,nowait,nodelay,delay');
    expect(opts.get('server')).toBe('on');
    expect(opts.get('wait')).toBe('off');
    expect(opts.get('delay')).toBe('on');
    expect(warnings).toEqual([
      `short-form boolean option 'server' deprecated; Please use server=on instead`,
      `short-form boolean option 'nowait' deprecated; Please use wait=off instead`,
      `short-form boolean option 'nodelay' deprecated; Please use nodelay=on instead`,
      `short-form boolean option 'delay' deprecated; Please use nodelay=off instead`,
    ]);
  });

  it('tells a request for help', () => {
    expect(parseQemuOpts('null,help', list, log)).toBe('help');
    expect(parseQemuOpts('null,?', list, log)).toBe('help');
    expect(parse('help').get('backend')).toBe('help');
  });

  it.each([
    ['null,bogus=1', `Invalid parameter 'bogus'`],
    ['null,help=1', `Invalid parameter 'help'`],
    ['null,toString=1', `Invalid parameter 'toString'`],
    ['null,server=maybe', `Parameter 'server' expects 'on' or 'off'`],
    ['null,to=x', `Parameter 'to' expects a number`],
    [
      'null,to=99999999999999999999',
      `Value '99999999999999999999' is too large for parameter 'to'`,
    ],
    ['null,size=x', `Parameter 'size' expects a non-negative number below 2^64`],
    [
      'null,size=99999999999999999999',
      `Value '99999999999999999999' is out of range for parameter 'size'`,
    ],
    ['null,id=1b', `Parameter 'id' expects an identifier`],
    ['null,id=', `Parameter 'id' expects an identifier`],
  ])('refuses %s', (text, message) => {
    expect(() => parse(text)).toThrow(message);
  });
});

describe('qemuOptsHelp', () => {
  it('lists names and types, sorted', () => {
    expect(qemuOptsHelp({ ...list, options: { to: 'num', path: 'str', wait: 'bool' } })).toBe(
      'chardev options:\n  path=<str>\n  to=<num>\n  wait=<bool (on/off)>\n',
    );
  });
});
