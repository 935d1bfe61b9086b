// What ours answers otherwise than the recorded reference, for people: node --import tsx test/conformance/compare.ts
// [area...] [--reference: ask the running reference instead of the recording]

import { areas } from './areas/index.ts';
import { deviations } from './deviations.ts';
import { readRecording } from './recording.ts';
import { caseIds, runArea } from './runner.ts';
import { ours, reference } from './side.ts';

const names = process.argv.slice(2).filter((argument) => !argument.startsWith('-'));
const live = process.argv.includes('--reference');
const expectedDeviations = new Set(deviations.map((deviation) => deviation.case));
let total = 0;
let differing = 0;

for (const area of areas) {
  if (names.length > 0 && !names.includes(area.name)) continue;
  const start = performance.now();
  const answers = await runArea(area, ours());
  const recorded =
    live || area.live !== undefined ? await runArea(area, reference()) : readRecording(area);
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  const ids = caseIds(area).filter((id) => !expectedDeviations.has(`${area.name}/${id}`));
  const wrong = ids.filter(
    (id) => JSON.stringify(answers.get(id)) !== JSON.stringify(recorded.get(id)),
  );
  total += ids.length;
  differing += wrong.length;
  for (const id of wrong) {
    console.log(`${area.name}/${id}`);
    console.log(`  expected ${JSON.stringify(recorded.get(id))}`);
    console.log(`  got      ${JSON.stringify(answers.get(id))}`);
  }
  console.error(`${area.name}: ${wrong.length} of ${ids.length} differ, ${seconds} s`);
}
console.error(`${differing} of ${total} differ`);
