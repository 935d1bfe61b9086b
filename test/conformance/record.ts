// Asks the reference again and writes its answers down: node --import tsx test/conformance/record.ts [area...]
// With --check nothing is written: two runs of the reference are compared instead, to see whether the cases are stable.

import { areas } from './areas/index.ts';
import type { Area } from './case.ts';
import { readRecording, writeRecording } from './recording.ts';
import { type Answers, caseIds, runArea } from './runner.ts';
import { reference } from './side.ts';

const names = process.argv.slice(2).filter((argument) => !argument.startsWith('-'));
const check = process.argv.includes('--check');

for (const area of areas) {
  if (names.length > 0 && !names.includes(area.name)) continue;
  const ids = caseIds(area);
  const twice = ids.filter((id, at) => ids.indexOf(id) !== at);
  if (twice.length > 0) throw new Error(`case ids used twice in ${area.name}: ${twice.join('; ')}`);
  const start = performance.now();
  const answers = await runArea(area, reference());
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.log(`${area.name}: ${ids.length} cases, ${seconds} s`);
  if (check && area.live === undefined) compare(area, answers);
  if (!check && area.live === undefined) writeRecording(area, answers);
}

function compare(area: Area, answers: Answers): void {
  const recorded = readRecording(area);
  for (const id of caseIds(area)) {
    const before = JSON.stringify(recorded.get(id));
    const now = JSON.stringify(answers.get(id));
    if (before === now) continue;
    console.log(`  differs: ${id}\n    recorded ${before}\n    now      ${now}`);
    process.exitCode = 1;
  }
}
