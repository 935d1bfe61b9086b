import {
  string as anyString,
  array,
  assert as assertProperty,
  constantFrom,
  nat,
  oneof,
  property,
  uint8Array,
} from 'fast-check';
import { describe, expect, it } from 'vitest';
import { JsonDouble } from '../../../src/qapi/json-double.ts';
import { defaultLimits, JsonStream, parseJson } from '../../../src/qapi/json-stream.ts';

type Result = { value: unknown } | { error: string };

/** What comes out of a stream that is fed the pieces one after the other. */
function results(pieces: readonly (string | Uint8Array)[], limits = defaultLimits): Result[] {
  const out: Result[] = [];
  const stream = new JsonStream(
    (value) => out.push({ value }),
    (error) => out.push({ error }),
    limits,
  );
  for (const piece of pieces) stream.push(bytes(piece));
  return out;
}

function bytes(text: string | Uint8Array): Uint8Array {
  return typeof text === 'string' ? Buffer.from(text, 'latin1') : text;
}

function values(text: string): unknown[] {
  return results([text]).map((result) => ('value' in result ? result.value : result));
}

function errors(text: string): string[] {
  return results([text]).map((result) => ('error' in result ? result.error : 'a value'));
}

const stray = (token: string) => `JSON parse error, stray '${token}'`;
const EXPECTING = 'JSON parse error, expecting value';

describe('JsonStream values', () => {
  it('needs no line end behind an object, and takes several on a line', () => {
    expect(values('{"a":1}{"b":[true,false,null]} []')).toEqual([
      { a: 1 },
      { b: [true, false, null] },
      [],
    ]);
  });

  it('ends a bare number or word at the next byte that cannot belong to it', () => {
    expect(values('12 true\n')).toEqual([12, true]);
    expect(values('12')).toEqual([]);
  });

  it('takes single-quoted strings', () => {
    expect(values(`{'a':'it\\'s "so"'}`)).toEqual([{ a: 'it\'s "so"' }]);
  });

  it('keeps integers exact up to 64 bits', () => {
    expect(
      values(
        '[9007199254740991,9007199254740993,18446744073709551615,-9223372036854775808,-9007199254740992,-0]',
      ),
    ).toEqual([
      [
        9007199254740991,
        9007199254740993n,
        18446744073709551615n,
        -9223372036854775808n,
        -9007199254740992n,
        0,
      ],
    ]);
  });

  it('makes every other number a double', () => {
    expect(values('[1.0,1e3,18446744073709551616,-9223372036854775809]')).toEqual([
      [
        new JsonDouble(1),
        new JsonDouble(1000),
        new JsonDouble(2 ** 64),
        new JsonDouble(-(2 ** 63)),
      ],
    ]);
  });

  it('reads a number of a million digits in no time', () => {
    const [number] = values(`${'9'.repeat(1_000_000)} `);
    expect(number).toEqual(new JsonDouble(Infinity));
  });

  it('decodes escapes, surrogate pairs and modified UTF-8', () => {
    expect(
      values(
        '["\\u00e9\\ud83d\\ude00\\b\\f\\n\\r\\t\\/\\\\","\xc3\xa9\xf0\x9f\x98\x80","\xc0\x80"]',
      ),
    ).toEqual([['é😀\b\f\n\r\t/\\', 'é😀', '\0']]);
  });

  it('gives objects without a prototype, so that __proto__ is a name like another', () => {
    const [object] = values('{"__proto__":1}') as [Record<string, unknown>];
    expect(Object.getPrototypeOf(object)).toBe(null);
    expect(Object.keys(object)).toEqual(['__proto__']);
  });
});

describe('JsonStream mistakes', () => {
  it.each([
    ['{execute:1}', ["JSON parse error, invalid keyword 'execute'"]],
    ['{"a":1,}', [EXPECTING]],
    ['{,}', [EXPECTING]],
    ['}', [EXPECTING]],
    ['[1,]', [EXPECTING]],
    ['{]', [EXPECTING]],
    ['{"a" 1}', ['JSON parse error, missing : in object pair']],
    ['{"a":1]', ['JSON parse error, expected separator in dict']],
    ['[1}', ['JSON parse error, expected separator in list']],
    ['{1:2}', ['JSON parse error, key is not a string in object']],
    ['{{"a":1}:2}', ['JSON parse error, key is not a string in object']],
    ['{"a":1,"a":2}', ['JSON parse error, duplicate key']],
    ['{"a":1,"a":}', [EXPECTING]],
    ['"\\x41"', ['JSON parse error, invalid escape sequence in string']],
    ['"\\ud83d"', ['JSON parse error, \\ud83d is not a valid Unicode character']],
    ['"\\ud83d\\u0041"', ['JSON parse error, \\ud83d is not a valid Unicode character']],
    ['"\\ud83f\\udffe"', ['JSON parse error, \\ud83f\\udffe is not a valid Unicode character']],
    ['"\\u12"', ['JSON parse error, \\u12" is not a valid Unicode character']],
    ['"\xed\xa0\x80"', ['JSON parse error, invalid UTF-8 sequence in string']],
    ['"\xc1\x81"', ['JSON parse error, invalid UTF-8 sequence in string']],
    ['%s\n', [stray('%')]],
    ['{"execute": %s}', [stray('%'), EXPECTING]],
    ['01}', [stray('01'), EXPECTING]],
    ['{"id":1.}', [stray('1.}')]],
    ['{"a":"b\tc"}', [stray('"b\t'), EXPECTING]],
    ['{"id":"\xff\xfe"}', [stray('"\ufffd'), stray('\ufffd'), EXPECTING]],
    ['{"id":"unterminated\n', [stray('"unterminated\n')]],
    ['\0\n', [stray('')]],
    ['/* c */\n', [stray('/')]],
  ])('answers %j as the reference does', (text, expected) => {
    expect(errors(text)).toEqual(expected);
  });

  it('cuts a keyword where the reference does, and a stray token at its own limit', () => {
    expect(errors(`${'x'.repeat(2000)} `)).toEqual([
      `JSON parse error, invalid keyword '${'x'.repeat(1006)}`,
    ]);
    expect(errors(`"${'x'.repeat(9999)}\n`)).toEqual([stray(`"${'x'.repeat(4095)}`)]);
  });

  it('is in step again after the byte 0xFF, whatever was before it', () => {
    assertProperty(
      property(uint8Array({ maxLength: 40 }), (garbage) => {
        const out = results([garbage, '\xff{"ok":1}']);
        expect(out.at(-1)).toEqual({ value: { ok: 1 } });
      }),
    );
  });
});

describe('JsonStream input in pieces', () => {
  const fragment = oneof(
    constantFrom(
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '"',
      "'",
      '\\',
      '\\u12',
      '1',
      '-0',
      '.5',
      'e9',
      'tr',
    ),
    constantFrom('true', 'null', ' ', '\n', '\xff', '\0', '\xc3\xa9', '"a":1', '[1,2]', '{"a":{}}'),
    anyString({ maxLength: 6 }),
  );
  const text = array(fragment, { maxLength: 30 }).map((parts) =>
    Buffer.from(parts.join(''), 'latin1'),
  );

  it('comes out the same wherever it is cut', () => {
    assertProperty(
      property(text, array(nat(60), { maxLength: 8 }), (input, cuts) => {
        const at = [...cuts.map((cut) => Math.min(cut, input.length)), input.length].sort(
          (a, b) => a - b,
        );
        const pieces = at.map((end, i) => input.subarray(i === 0 ? 0 : at[i - 1], end));
        expect(results(pieces)).toEqual(results([input]));
      }),
      { numRuns: 500 },
    );
  });

  it('comes out the same when every limit is met in the middle', () => {
    const limits = { tokenBytes: 12, tokens: 6, nesting: 3, quotedBytes: 5 };
    assertProperty(
      property(text, (input) => {
        const single = Array.from(input, (byte) => Uint8Array.of(byte));
        expect(results(single, limits)).toEqual(results([input], limits));
      }),
      { numRuns: 500 },
    );
  });

  it('stops behind the message whose callback pauses it', () => {
    const seen: unknown[] = [];
    const stream: JsonStream = new JsonStream(
      (value) => {
        seen.push(value);
        stream.pause();
      },
      () => {},
    );
    const input = Buffer.from('{"a":1}{"b":2} ');
    const at = stream.push(input);
    expect([at, seen]).toEqual([7, [{ a: 1 }]]);
    expect(stream.push(input, at)).toBe(14);
    expect(seen).toEqual([{ a: 1 }, { b: 2 }]);
  });
});

describe('JsonStream limits', () => {
  const limits = { ...defaultLimits, tokenBytes: 1000, tokens: 100 };

  it('takes 1024 open brackets and no more, and is in step behind the message', () => {
    const nested = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`;
    expect(results([nested(1024)])).toHaveLength(1);
    expect(results([`${nested(1025)}{"ok":1}`])).toEqual([
      { error: 'JSON nesting depth limit exceeded' },
      { value: { ok: 1 } },
    ]);
  });

  it('never takes a part of a message over a limit for a message', () => {
    const long = `[${'0,'.repeat(100)}{"execute":"quit"}]`;
    expect(results([`${long}{"ok":1}`], limits)).toEqual([
      { error: 'JSON token count limit exceeded' },
      { value: { ok: 1 } },
    ]);
  });

  it('limits the bytes of all tokens together', () => {
    const text = `["${'x'.repeat(600)}","${'y'.repeat(600)}"]7 `;
    expect(results([text], limits)).toEqual([
      { error: 'JSON token size limit exceeded' },
      { value: 7 },
    ]);
  });

  it('passes over the rest of a string that is too long by itself', () => {
    const text = `"${'x'.repeat(5000)}" {"ok":1}`;
    expect(results([text], limits)).toEqual([
      { error: 'JSON token size limit exceeded' },
      { value: { ok: 1 } },
    ]);
  });

  it('ends the skipping at a lexical error, so 0xFF still helps', () => {
    expect(results([`${'['.repeat(2000)}\xff{"ok":1}`])).toEqual([
      { error: 'JSON nesting depth limit exceeded' },
      { value: { ok: 1 } },
    ]);
  });

  it('takes 100,000 members of an object in one go', () => {
    const object = `{${Array.from({ length: 100_000 }, (_, i) => `"m${i}":${i}`).join(',')}}`;
    expect(Object.keys(values(object)[0] as object)).toHaveLength(100_000);
  });
});

describe('parseJson', () => {
  it('gives the one value', () => {
    expect(parseJson(' {"driver":"file"} ')).toEqual({ driver: 'file' });
    expect(parseJson('5')).toBe(5);
  });

  it.each([
    ['', 'Expecting a JSON value'],
    ['{"driver":"file"', 'JSON parse error, premature EOI'],
    ['{"driver":"file",}', EXPECTING],
    ['{} {}', 'Expecting at most one JSON value'],
    ['{} ]', 'Expecting at most one JSON value'],
    ['] {}', EXPECTING],
    ['"abc', stray('"abc')],
  ])('refuses %j', (text, message) => {
    expect(() => parseJson(text)).toThrow(message);
  });
});
