// The vitest face of an area: every case is put to our daemon and compared with the recorded answer of the reference; where
// the reference is installed, the recording itself is checked too.

import { beforeAll, describe, expect, it } from 'vitest';
import { referenceMissing } from '../helpers/reference.ts';
import type { Area } from './case.ts';
import { type Deviation, deviations } from './deviations.ts';
import { readRecording } from './recording.ts';
import { type Answers, caseIds, runArea } from './runner.ts';
import { ours, reference } from './side.ts';

const AREA_LIMIT_MS = 120_000;

export function conformance(area: Area): void {
  const ids = caseIds(area);
  const recorded = readRecording(area);
  const deviating = new Map(
    deviations
      .filter((deviation) => deviation.case.startsWith(`${area.name}/`))
      .map((deviation) => [deviation.case.slice(area.name.length + 1), deviation]),
  );

  describe(`conformance: ${area.name}`, () => {
    let answers: Answers = new Map();
    beforeAll(async () => {
      answers = await runArea(area, ours());
    }, AREA_LIMIT_MS);

    for (const id of ids) {
      const deviation = deviating.get(id);
      it(deviation === undefined ? id : `${id} [differs: ${deviation.why}]`, () => {
        expect(recorded.has(id), 'recorded by test/conformance/record.ts').toBe(true);
        const expected = recorded.get(id) ?? [];
        const answer = answers.get(id) ?? [];
        if (deviation === undefined) expect(answer).toEqual(expected);
        else expectDeviation(deviation, { answer, expected });
      });
    }

    it('names only existing cases as deviations', () => {
      expect([...deviating.keys()].filter((id) => !ids.includes(id))).toEqual([]);
    });
  });

  const missing = referenceMissing();
  describe(`recorded answers: ${area.name}${missing === undefined ? '' : ` (${missing})`}`, () => {
    it.skipIf(missing !== undefined)(
      'are what the reference answers',
      async () => {
        const answers = await runArea(area, reference());
        expect(Object.fromEntries(ids.map((id) => [id, answers.get(id)]))).toEqual(
          Object.fromEntries(ids.map((id) => [id, recorded.get(id)])),
        );
        expect([...recorded.keys()].filter((id) => !ids.includes(id))).toEqual([]);
      },
      AREA_LIMIT_MS,
    );
  });
}

function expectDeviation(
  deviation: Deviation,
  seen: { readonly answer: readonly string[]; readonly expected: readonly string[] },
): void {
  expect(seen.answer, 'the deviation is needed').not.toEqual(seen.expected);
  if ('matches' in deviation.ours) expect(seen.answer.join('\n')).toMatch(deviation.ours.matches);
  else expect(seen.answer).toEqual(deviation.ours);
}
