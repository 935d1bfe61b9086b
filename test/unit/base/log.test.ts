import { describe, expect, it } from 'vitest';
import { createLineLogger, traceLine } from '../../../src/base/log.ts';
import { createJsonLogger, jsonLogLevel } from '../../../src/base/log-json.ts';

describe('createLineLogger', () => {
  it('prints the program, what is being worked on, and the message', () => {
    let text = '';
    const log = createLineLogger('prog', (line) => (text += line));
    log.error('It failed');
    log.location = { kind: 'option', words: '--object x' };
    log.error('Bad id', { hint: 'Try another.' });
    log.warn('Odd');
    log.debug('Nobody sees this');
    log.location = { kind: 'file', path: 'events', line: 3 };
    log.warn('Unknown');
    log.location = { kind: 'file', path: 'events' };
    log.error('No such file or directory');
    expect(text).toBe(
      [
        'prog: It failed',
        'prog: --object x: Bad id',
        'Try another.',
        'prog: --object x: warning: Odd',
        'prog:events:3: warning: Unknown',
        'prog:events: No such file or directory',
        '',
      ].join('\n'),
    );
  });
});

describe('traceLine', () => {
  it('has the process, the time, the name and the fields', () => {
    expect(traceLine('nbd_x', { offset: 4096, name: 'e' }, 1500)).toBe(
      `${process.pid}@1.500000:nbd_x offset=4096 name=e\n`,
    );
  });
});

describe('createJsonLogger', () => {
  it('writes one object a line, from its level on, with place and fields', async () => {
    const lines: string[] = [];
    const log = await createJsonLogger({
      program: 'prog',
      level: 'warn',
      write: (line) => lines.push(line),
    });
    log.debug('too low');
    log.location = { kind: 'option', words: '--object x' };
    log.error('It failed', { err: new Error('why') });
    expect(lines).toHaveLength(1);
    expect(JSON.parse(lines[0] ?? '')).toMatchObject({
      level: 50,
      name: 'prog',
      msg: 'It failed',
      at: '--object x',
      err: { message: 'why' },
    });
  });
});

describe('jsonLogLevel', () => {
  it('reads QSD_LOG', () => {
    expect(jsonLogLevel(undefined)).toBeUndefined();
    expect(jsonLogLevel('json')).toBe('warn');
    expect(jsonLogLevel('json:debug')).toBe('debug');
    expect(() => jsonLogLevel('json:loud')).toThrow(/error, warn, debug, trace/);
    expect(() => jsonLogLevel('yaml')).toThrow(/QSD_LOG/);
  });
});
