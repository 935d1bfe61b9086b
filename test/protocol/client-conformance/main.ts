// The second half of `make nbd-conformance`: prints what becomes of clients whose server breaks a rule; with a path as
// argument it is written there. That it is true is for nbd-client-conformance.test.ts to say.

import { writeFileSync } from 'node:fs';
import { clientConformanceReport } from './report.ts';

const report = clientConformanceReport();
const [, , path] = process.argv;
if (path !== undefined) writeFileSync(path, report);
process.stdout.write(report);
