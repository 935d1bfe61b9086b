import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { scanWords } from '../../src/cli/getopt.ts';
import { parseKeyval } from '../../src/cli/keyval.ts';
import { optionValue } from '../../src/cli/option-value.ts';
import { QmpError } from '../../src/qapi/errors.ts';
import type { KeyvalObject } from '../../src/qapi/keyval-coercion.ts';
import { checkFor, corpus, keep, mutated, numbersFrom } from './budget.ts';

const seeds = [
  'driver=raw,node-name=r,file.driver=file,file.filename=a,,b.img,offset=512,size=4k',
  'file,node-name=a,filename=x,cache.direct=on,read-only=yes,detect-zeroes=unmap,discard=unmap',
  'nbd,id=e,node-name=n,name=,bitmaps.0=a,bitmaps.1.node=x,bitmaps.1.name=y,writable=maybe',
  'addr.type=inet,addr.host=127.0.0.1,addr.port=0,addr.ipv4=on,addr.to=99999,max-connections=-1',
  'authz-list,id=l,rules.0.match=x*,rules.0.policy=allow,rules.0.format=glob,policy=deny',
  'help,?,.x=1,a..b=2,=,,,0=1,a.0.0.0=1,a.4294967296=1,a.00=1',
  '{"driver":"raw","node-name":"r","file":{"driver":"null-co","size":1e3}}',
  "{'addr':{'type':'unix','path':'x'},'max-connections':1.0}",
  'constructor=1,__proto__=2,__proto__.x=3,toString.valueOf=4,hasOwnProperty=5',
].map((text) => Buffer.from(text));

const types = [
  'BlockdevOptions',
  'BlockExportOptions',
  'MonitorOptions',
  'NbdServerOptions',
  'ObjectOptions',
] as const;
const impliedKeys = ['driver', 'type', 'chardev', undefined, 'qom-type'] as const;

/** Parses as every type; anything but a value or a QmpError is a failure. */
async function takes(text: string): Promise<void> {
  for (const [at, type] of types.entries()) {
    try {
      await optionValue(text, type, impliedKeys[at]);
    } catch (error) {
      if (!(error instanceof QmpError)) throw error;
      expect(error.message).not.toBe('');
    }
  }
}

describe('option arguments', () => {
  it('that once failed are values or errors', async () => {
    for (const input of [...corpus('option-text'), ...seeds]) await takes(input.toString());
  });

  it('mutated in any way are values or errors', { timeout: 600_000 }, async () => {
    const property = fc.asyncProperty(fc.nat(), async (start) => {
      const next = numbersFrom(start);
      const pick = (): Buffer => seeds[Math.floor(next() * seeds.length)] ?? Buffer.alloc(0);
      const input = mutated(pick(), pick(), next);
      try {
        await takes(input.toString());
      } catch (error) {
        throw new Error(keep('option-text', input), { cause: error });
      }
    });
    await checkFor(0.5, property);
  });

  it('written from nested objects read back as they were', async () => {
    const key = fc.stringMatching(/^[a-z][a-z0-9-]{0,6}$/).filter((text) => text !== 'help');
    const leaf = fc.string({ maxLength: 8 });
    const { tree } = fc.letrec<{ tree: KeyvalObject; node: unknown }>((tie) => ({
      node: fc.oneof(
        { maxDepth: 3 },
        leaf,
        tie('tree'),
        fc.array(leaf, { minLength: 1, maxLength: 3 }),
      ),
      tree: fc.dictionary(key, tie('node'), {
        minKeys: 1,
        maxKeys: 4,
      }) as fc.Arbitrary<KeyvalObject>,
    }));
    const flat = (value: unknown, path: string): string[] =>
      typeof value === 'string'
        ? [`${path}=${value.replaceAll(',', ',,')}`]
        : Object.entries(value as object).flatMap(([name, member]) =>
            flat(member, path === '' ? name : `${path}.${name}`),
          );
    const property = fc.property(tree, (values) => {
      expect(JSON.stringify(parseKeyval(flat(values, '').join(',')).values)).toBe(
        JSON.stringify(values),
      );
    });
    await checkFor(0.25, property);
  });

  it('of any words are scanned to the end', async () => {
    const specs = [
      { name: 'help', short: 'h', argument: 'none' },
      { name: 'trace', short: 'T', argument: 'required' },
      { name: 'blockdev', argument: 'required' },
      { name: 'daemonize', argument: 'none' },
    ] as const;
    const word = fc.oneof(
      fc.constantFrom('-', '--', '-hT', '-Th', '--b', '--d=1', '--trace=', '-hhh'),
      fc.string({ maxLength: 9 }),
    );
    const property = fc.property(fc.array(word, { maxLength: 12 }), (words) => {
      expect([...scanWords(words, specs)].length).toBeLessThanOrEqual(
        words.join('').length + words.length,
      );
    });
    await checkFor(0.1, property);
  });
});
