// The recorded answers of the reference: one JSON file per area, one line per case, so that a change shows as a change of
// lines.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import type { Area } from './case.ts';
import { type Answers, caseIds, recordingPath } from './runner.ts';

export function readRecording(area: Area): Answers {
  const path = recordingPath(area);
  if (!existsSync(path)) return new Map();
  const stored = JSON.parse(readFileSync(path, 'utf8')) as Record<string, readonly string[]>;
  return new Map(Object.entries(stored));
}

export function writeRecording(area: Area, answers: Answers): void {
  const lines = caseIds(area).map(
    (id) => `  ${JSON.stringify(id)}: ${JSON.stringify(answers.get(id) ?? [])}`,
  );
  writeFileSync(recordingPath(area), `{\n${lines.join(',\n')}\n}\n`);
}
