// The vitest face of an area: every case is put to our daemon and compared with the recorded answer of the reference; where
// the reference is installed, the recording itself is checked too.

import { isDeepStrictEqual } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import { referenceMissing } from '../helpers/reference.ts';
import type { Area } from './case.ts';
import type { Deviation } from './deviations/deviation.ts';
import { deviations } from './deviations.ts';
import { readRecording } from './recording.ts';
import { type Answers, caseIds, runArea } from './runner.ts';
import { ours, reference } from './side.ts';

const AREA_LIMIT_MS = 300_000;

export function conformance(area: Area): void {
  if (area.live === undefined) conformanceToRecording(area);
  else conformanceToRunning(area);
}

/** Both are asked now, and must answer the same. */
function conformanceToRunning(area: Area): void {
  const missing = referenceMissing();
  const note = missing === undefined ? '' : ` (${missing})`;
  describe.skipIf(missing !== undefined)(`conformance: ${area.name}${note}`, () => {
    let answers: Answers = new Map();
    let expected: Answers = new Map();
    beforeAll(async () => {
      expected = await runArea(area, reference());
      answers = await runArea(area, ours());
    }, AREA_LIMIT_MS);
    const deviating = deviationsOf(area);
    for (const id of caseIds(area)) {
      const deviation = deviating.get(id);
      it(title(id, deviation), () => {
        const seen = { answer: answers.get(id) ?? [], expected: expected.get(id) ?? [] };
        expectAnswer(deviation, seen);
      });
    }
    it('names only existing cases as deviations', () => {
      expectExisting(area, deviating);
    });
  });
}

function conformanceToRecording(area: Area): void {
  const ids = caseIds(area);
  const recorded = readRecording(area);
  const deviating = deviationsOf(area);

  const here = area.missing === undefined ? '' : ` (${area.missing})`;
  describe.skipIf(area.missing !== undefined)(`conformance: ${area.name}${here}`, () => {
    let answers: Answers = new Map();
    beforeAll(async () => {
      answers = await runArea(area, ours());
    }, AREA_LIMIT_MS);

    for (const id of ids) {
      const deviation = deviating.get(id);
      it(title(id, deviation), () => {
        expect(recorded.has(id), 'recorded by test/conformance/record.ts').toBe(true);
        const seen = { answer: answers.get(id) ?? [], expected: recorded.get(id) ?? [] };
        expectAnswer(deviation, seen);
      });
    }

    it('names only existing cases as deviations', () => {
      expectExisting(area, deviating);
    });
  });

  const missing = area.missing ?? referenceMissing();
  describe(`recorded answers: ${area.name}${missing === undefined ? '' : ` (${missing})`}`, () => {
    it.skipIf(missing !== undefined)(
      'are what the reference answers',
      async () => {
        const answers = await runArea(area, reference());
        const stale = ids.filter((id) => !isDeepStrictEqual(answers.get(id), recorded.get(id)));
        expect(Object.fromEntries(stale.map((id) => [id, answers.get(id)]))).toEqual(
          Object.fromEntries(stale.map((id) => [id, recorded.get(id)])),
        );
        expect([...recorded.keys()].filter((id) => !ids.includes(id))).toEqual([]);
      },
      AREA_LIMIT_MS,
    );
  });
}

type Deviating = ReadonlyMap<string, Deviation>;

function deviationsOf(area: Area): Deviating {
  const prefix = `${area.name}/`;
  const own = deviations.filter((deviation) => deviation.case.startsWith(prefix));
  return new Map(own.map((deviation) => [deviation.case.slice(prefix.length), deviation]));
}

function title(id: string, deviation: Deviation | undefined): string {
  return deviation === undefined ? id : `${id} [differs: ${deviation.why}]`;
}

function expectAnswer(
  deviation: Deviation | undefined,
  seen: { readonly answer: readonly string[]; readonly expected: readonly string[] },
): void {
  if (deviation === undefined) {
    expect(seen.answer).toEqual(seen.expected);
    return;
  }
  expect(seen.answer, 'the deviation is needed').not.toEqual(seen.expected);
  if ('matches' in deviation.ours) expect(seen.answer.join('\n')).toMatch(deviation.ours.matches);
  else expect(seen.answer).toEqual(deviation.ours);
}

function expectExisting(area: Area, deviating: Deviating): void {
  const ids = caseIds(area);
  expect([...deviating.keys()].filter((id) => !ids.includes(id))).toEqual([]);
}
