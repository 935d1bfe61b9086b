// `make nbd-conformance`: examines our server for the rules of the NBD specification and prints the report; with a path as
// argument it is written there. Ends with status 1 when a rule fails.

import { writeFileSync } from 'node:fs';
import { sections } from './index.ts';
import { conformanceReport } from './report.ts';
import { examine } from './rule.ts';
import { startSubjectServer } from './subject-server.ts';

const server = await startSubjectServer();
const findings = await examine(server, sections);
await server.close();
const report = conformanceReport(findings);
const [, , path] = process.argv;
if (path !== undefined) writeFileSync(path, report);
process.stdout.write(report);
process.exitCode = findings.some(({ verdict }) => verdict === 'fail') ? 1 : 0;
