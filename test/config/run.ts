// `make test`: runs the vitest projects one after the other, then prints what was left out, what failed and why, and one
// line of totals, all taken from vitest's own reports.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Failure, failedList, failures, leftOut, type VitestReport } from './report.ts';
import { root } from './shared.ts';

const projects = ['unit', 'daemon'];

function main(): number {
  const reports = mkdtempSync(join(tmpdir(), 'qsd-test-'));
  let passed = 0;
  const failed: Failure[] = [];
  const skipped: string[] = [];
  try {
    for (const project of projects) {
      const outcome = runProject(project, join(reports, `${project}.json`));
      if ('report' in outcome) {
        const found = failures(outcome.report);
        passed += outcome.report.numPassedTests;
        failed.push(...found);
        if (outcome.status !== 0 && found.length === 0) failed.push(unhandled(project, outcome));
        skipped.push(...leftOut(outcome.report));
      } else {
        failed.push(outcome.failure);
      }
    }
  } finally {
    rmSync(reports, { recursive: true, force: true });
  }
  if (skipped.length > 0) {
    console.log(`\nLeft out (${skipped.length}):`);
    for (const name of skipped) console.log(`  ${name}`);
  }
  if (failed.length > 0) console.log(`\n${failedList(failed)}`);
  console.log(`\ntests: ${passed} passed, ${failed.length} failed`);
  return failed.length === 0 && passed > 0 ? 0 : 1;
}

interface Run {
  readonly status: number | null;
  readonly report: VitestReport;
}

function runProject(project: string, output: string): Run | { readonly failure: Failure } {
  console.log(`\n== ${project}`);
  const vitest = join(root, 'node_modules/vitest/vitest.mjs');
  const config = configOf(project);
  const args = ['run', '-c', config];
  const reporters = ['--reporter=dot', '--reporter=json', `--outputFile.json=${output}`];
  const { status } = spawnSync(process.execPath, [vitest, ...args, ...reporters], {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  try {
    return { status, report: JSON.parse(readFileSync(output, 'utf8')) as VitestReport };
  } catch {
    const message = `vitest left no report (exit status ${status})`;
    return { failure: { name: `the project ${project}`, file: config, message } };
  }
}

/** An error outside of every test: the report does not have it, the exit status does. */
function unhandled(project: string, { status }: Run): Failure {
  const message = `vitest ended with ${status} though no test failed: what it printed says why`;
  return { name: `the project ${project}`, file: configOf(project), message };
}

function configOf(project: string): string {
  return `test/config/${project}.config.ts`;
}

process.exitCode = main();
