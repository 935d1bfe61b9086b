import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { JsonDouble } from '../../src/qapi/json-double.ts';
import { JsonStream, parseJson } from '../../src/qapi/json-stream.ts';
import { writeJson } from '../../src/qapi/json-writer.ts';
import type { QmpLink } from '../conformance/qmp-link.ts';
import { checkFor, corpus, keep, mutated, numbersFrom } from './budget.ts';
import { Victim } from './victim.ts';

const seeds = [
  '{"execute":"qmp_capabilities"}{"execute":"query-block-exports","id":{"a":[1,2.5,null,true,"\\u00e9"]}}\n',
  "{'execute':'qmp_capabilities'}{'execute':'query-named-block-nodes','arguments':{'flat':true}}",
  '{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}{"exec-oob":"query-version","id":1}',
  '{"execute":"qmp_capabilities"}{"execute":"blockdev-add","arguments":{"driver":"null-co","node-name":"x","size":4096,"read-zeroes":true}}{"execute":"blockdev-del","arguments":{"node-name":"x"}}',
  '{"execute":"qmp_capabilities"}{"execute":"blockdev-add","arguments":{"driver":"raw","node-name":"r","file":{"driver":"null-co","size":1048576},"offset":512,"cache":{"direct":true}}}{"execute":"block_resize","arguments":{"node-name":"r","size":512}}',
  '{"execute":"qmp_capabilities"}{"execute":"block-export-add","arguments":{"type":"nbd","id":"x","node-name":"n","name":"x","bitmaps":[]}}{"execute":"block-export-del","arguments":{"id":"x","mode":"hard"}}',
  '{"execute":"qmp_capabilities"}{"execute":"object-add","arguments":{"qom-type":"secret","id":"s","data":"aGk=","format":"base64"}}{"execute":"qom-list","arguments":{"path":"/objects"}}{"execute":"object-del","arguments":{"id":"s"}}',
  '{"execute":"qmp_capabilities"}{"execute":"chardev-add","arguments":{"id":"rb","backend":{"type":"ringbuf","data":{"size":64}}}}{"execute":"ringbuf-write","arguments":{"device":"rb","data":"x"}}{"execute":"ringbuf-read","arguments":{"device":"rb","size":9}}{"execute":"chardev-remove","arguments":{"id":"rb"}}',
  `{"execute":"query-version","id":${'['.repeat(1100)}`,
  '"\\ud83d\\ude00" 1e400 -0 18446744073709551616 \u0000 %s { } [ ] , :',
].map((text) => Buffer.from(text));

describe('the JSON stream', () => {
  it('does not care how its input is cut', async () => {
    const outcome = (pieces: readonly Uint8Array[]): string[] => {
      const lines: string[] = [];
      const stream = new JsonStream(
        (value) => lines.push(writeJson(value)),
        (message) => lines.push(message),
      );
      for (const piece of pieces) stream.push(piece);
      return lines;
    };
    const property = fc.property(
      fc.nat(),
      fc.array(fc.nat(400), { maxLength: 8 }),
      (start, cuts) => {
        const next = numbersFrom(start);
        const pick = (): Buffer => seeds[Math.floor(next() * seeds.length)] ?? Buffer.alloc(0);
        const input = mutated(pick(), pick(), next);
        const points = [0, ...cuts.map((cut) => Math.min(cut, input.length)), input.length].sort(
          (a, b) => a - b,
        );
        const pieces = points.slice(1).map((end, at) => input.subarray(points[at], end));
        expect(outcome(pieces)).toEqual(outcome([input]));
      },
    );
    await checkFor(0.15, property);
  });

  it('reads what JSON.stringify writes, and what it writes itself', async () => {
    const plain = (value: unknown): unknown => {
      if (value instanceof JsonDouble) return value.value;
      if (typeof value === 'bigint') return Number(value);
      if (Array.isArray(value)) return value.map(plain);
      if (typeof value !== 'object' || value === null) return value;
      return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, plain(member)]));
    };
    const property = fc.property(fc.jsonValue({ maxDepth: 5 }), (value) => {
      // Lone surrogates are refused.
      const text = JSON.stringify(value);
      fc.pre(!/\\ud[89a-f]/i.test(text));
      const parsed = parseJson(text);
      expect(plain(parsed)).toEqual(JSON.parse(text));
      expect(plain(parseJson(writeJson(parsed)))).toEqual(plain(parsed));
    });
    await checkFor(0.1, property);
  });
});

describe('a QMP monitor', () => {
  let victim: Victim;
  beforeAll(async () => {
    victim = await Victim.start();
  });
  afterAll(async () => {
    await victim.stop();
  });

  async function torment(inputs: readonly Uint8Array[]): Promise<void> {
    for (const input of inputs) {
      const link = await victim.daemon.connect('fuzz.sock');
      link.send(input);
      await link.until(() => false, 8);
      link.close();
    }
  }

  it('survives every input that once failed', async () => {
    await torment(corpus('qmp'));
    expect(await victim.ailment()).toBeUndefined();
  });

  it('survives mutated sessions', { timeout: 600_000 }, async () => {
    const property = fc.asyncProperty(
      fc.array(fc.nat(), { minLength: 20, maxLength: 20 }),
      async (starts) => {
        const inputs = starts.map((start) => {
          const next = numbersFrom(start);
          const pick = (): Buffer => seeds[Math.floor(next() * seeds.length)] ?? Buffer.alloc(0);
          return mutated(pick(), pick(), next);
        });
        await torment(inputs);
        const ailment = await victim.ailment();
        if (ailment !== undefined) {
          throw new Error(`${ailment}; ${inputs.map((input) => keep('qmp', input)).join('; ')}`);
        }
      },
    );
    await checkFor(0.45, property);
  });

  it('answers every well-formed command exactly once, with its id', {
    timeout: 600_000,
  }, async () => {
    const link: QmpLink = await victim.daemon.connect('fuzz.sock');
    await link.negotiate();
    const names = [
      'query-version',
      'query-block-exports',
      'block-export-add',
      'blockdev-add',
      'nbd-server-start',
      'qom-get',
      'object-add',
      'chardev-change',
      'block_resize',
      'nope',
      '',
    ];
    const members = [
      'type',
      'id',
      'node-name',
      'driver',
      'size',
      'addr',
      'path',
      'property',
      'qom-type',
      'backend',
      'file',
      'cache',
      'bitmaps',
      'bogus',
    ];
    const value = fc.jsonValue({ maxDepth: 3, stringUnit: 'grapheme' });
    const args = fc.oneof(fc.dictionary(fc.constantFrom(...members), value, { maxKeys: 5 }), value);
    const command = fc.record(
      { execute: fc.constantFrom(...names), arguments: args },
      { requiredKeys: ['execute'] },
    );
    let count = 0;
    const property = fc.asyncProperty(
      fc.array(command, { minLength: 1, maxLength: 12 }),
      async (commands) => {
        const texts = commands.map((one) => JSON.stringify(one));
        // Surrogates alone are no text to the daemon, and a session that starts what it can must stay small.
        fc.pre(texts.every((text) => !/\\ud[89a-f]/i.test(text)));
        const ids = texts.map(() => `fuzz-${++count}`);
        link.send(texts.map((text, at) => `${text.slice(0, -1)},"id":"${ids[at]}"}`).join('\n'));
        const last = ids.at(-1) ?? '';
        const answers = await link.until((text) => text.includes(`"${last}"`), 5000);
        const replies = answers.filter((text) => !text.includes('"event": '));
        expect(replies.map((text) => (JSON.parse(text) as { id: string }).id)).toEqual(ids);
      },
    );
    try {
      await checkFor(0.3, property);
    } finally {
      link.close();
    }
  });
});
