import { describe, expect, it } from 'vitest';
import { parseKeyval } from '../../../src/cli/keyval.ts';

const values = (text: string, implied?: string) =>
  structuredClone(parseKeyval(text, implied).values);

const refused = (text: string, implied?: string) => {
  try {
    parseKeyval(text, implied);
  } catch (error) {
    return (error as Error).message;
  }
  return undefined;
};

describe('parseKeyval', () => {
  it('takes keys with dots as objects in objects, and numbers as indexes', () => {
    expect(values('driver=raw,file.driver=file,file.filename=a.img')).toEqual({
      driver: 'raw',
      file: { driver: 'file', filename: 'a.img' },
    });
    expect(values('rules.1.match=b,rules.0.match=a')).toEqual({
      rules: [{ match: 'a' }, { match: 'b' }],
    });
  });

  it('takes a comma from two, and ends at one at the end', () => {
    expect(values('filename=a,,b.img,x=,,')).toEqual({ filename: 'a,b.img', x: ',' });
    expect(values('a=1,')).toEqual({ a: '1' });
    expect(values('a=x=y')).toEqual({ a: 'x=y' });
    expect(values('')).toEqual({});
  });

  it('gives the first parameter the implied key when it has none', () => {
    expect(values('file,node-name=a', 'driver')).toEqual({ driver: 'file', 'node-name': 'a' });
    expect(values('driver=file', 'driver')).toEqual({ driver: 'file' });
    expect(refused('a=1,file', 'driver')).toBe(`Expected '=' after parameter 'file'`);
    expect(refused('unix')).toBe(`Expected '=' after parameter 'unix'`);
  });

  it('keeps the last of several values', () => {
    expect(values('driver=file,driver=raw')).toEqual({ driver: 'raw' });
  });

  it('tells a request for help from a parameter', () => {
    expect(parseKeyval('help', 'driver').help).toBe(true);
    expect(parseKeyval('secret,?', 'qom-type')).toMatchObject({ help: true });
    expect(parseKeyval('helper', 'driver').help).toBe(false);
    expect(parseKeyval('a=help').help).toBe(false);
  });

  it.each([
    ['=file', `Invalid parameter ''`],
    ['.x=1', `Invalid parameter '.x'`],
    ['a..x=1', `Invalid parameter 'a..x'`],
    ['a.=1', `Invalid parameter 'a.'`],
    ['a=1,a.=2', `Invalid parameter 'a.'`],
    ['0=1', `Invalid parameter '0'`],
    ['a.1x=1', `Invalid parameter 'a.1x'`],
    ['file=x,file.driver=file', `Parameters 'file.*' used inconsistently`],
    ['file.driver=file,file=x', `Parameters 'file.*' used inconsistently`],
    ['a.b.c=1,a.b=2', `Parameters 'a.b.*' used inconsistently`],
    ['a.0=1,a.x=1', `Parameters 'a.*' used inconsistently`],
    ['a.0=1,a.2=1', `Parameter 'a.1' missing`],
    ['a.b.1=1', `Parameter 'a.b.0' missing`],
    ['a.99999999999999=1', `Parameter 'a.0' missing`],
    [`${'a'.repeat(128)}=1`, `Parameter '${'a'.repeat(128)}' is too long`],
    [`a.${'b'.repeat(128)}=1`, `Parameter fragment '${'b'.repeat(128)}' is too long`],
  ])('refuses %s', (text, message) => {
    expect(refused(text)).toBe(message);
  });

  it('accepts the names that QAPI has', () => {
    expect(values('__com.redhat_x=1,a-b_C=2')).toEqual({ '__com.redhat_x': '1', 'a-b_C': '2' });
    expect(values(`${'a'.repeat(127)}=1`)).toEqual({ ['a'.repeat(127)]: '1' });
  });

  it('keeps names that JavaScript objects have of their own', () => {
    expect(Object.keys(parseKeyval('constructor=1,toString.x=2').values)).toEqual([
      'constructor',
      'toString',
    ]);
    expect(refused('__proto__=1')).toBe(`Invalid parameter '__proto__'`);
  });
});
