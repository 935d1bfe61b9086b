// `make test`: runs the vitest projects one after the other, then prints what was left out and why, and one line of totals
// taken from vitest's own reports.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from './shared.ts';

interface VitestReport {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numFailedTestSuites: number;
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly assertionResults: readonly { readonly status: string; readonly fullName: string }[];
  }[];
}

const projects = ['unit', 'daemon'];

function main(): number {
  const reports = mkdtempSync(join(tmpdir(), 'qsd-test-'));
  let passed = 0;
  let failed = 0;
  const skipped: string[] = [];
  try {
    for (const project of projects) {
      const report = runProject(project, join(reports, `${project}.json`));
      if (report === undefined) {
        failed += 1;
        continue;
      }
      passed += report.numPassedTests;
      failed += report.numFailedTests;
      for (const file of report.testResults) {
        // A file that fails outside of its tests counts once: no test of it may be lost silently.
        if (file.status === 'failed' && file.assertionResults.every((t) => t.status !== 'failed')) {
          failed += 1;
        }
        for (const test of file.assertionResults) {
          if (test.status === 'pending' || test.status === 'skipped') skipped.push(test.fullName);
        }
      }
    }
  } finally {
    rmSync(reports, { recursive: true, force: true });
  }
  if (skipped.length > 0) {
    console.log(`\nLeft out (${skipped.length}):`);
    for (const name of skipped) console.log(`  ${name}`);
  }
  console.log(`\ntests: ${passed} passed, ${failed} failed`);
  return failed === 0 && passed > 0 ? 0 : 1;
}

function runProject(project: string, output: string): VitestReport | undefined {
  console.log(`\n== ${project}`);
  const vitest = join(root, 'node_modules/vitest/vitest.mjs');
  const args = ['run', '-c', `test/config/${project}.config.ts`];
  const reporters = ['--reporter=dot', '--reporter=json', `--outputFile.json=${output}`];
  const { status } = spawnSync(process.execPath, [vitest, ...args, ...reporters], {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  try {
    return JSON.parse(readFileSync(output, 'utf8')) as VitestReport;
  } catch {
    console.error(`vitest left no report for the project ${project} (exit status ${status})`);
    return undefined;
  }
}

process.exitCode = main();
