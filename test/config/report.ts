// What `make test` reads out of a JSON report of vitest: the totals, what was left out, and which tests failed and why.

import { relative } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { root } from './shared.ts';

/** The part of a report that is read. `name` is the file's path; a test's first failure message is an error's stack. */
export interface VitestReport {
  readonly numPassedTests: number;
  readonly testResults: readonly FileResult[];
}

interface FileResult {
  readonly name: string;
  readonly status: string;
  readonly message: string;
  readonly assertionResults: readonly TestResult[];
}

interface TestResult {
  readonly status: string;
  readonly fullName: string;
  readonly failureMessages: readonly string[];
}

/** A test that failed, or a file that did so outside of its tests; `message` is as vitest wrote it. */
export interface Failure {
  readonly name: string;
  readonly file: string;
  readonly message: string;
}

const MAX_MESSAGE_LINES = 12;

/** Frames of a stack that are in no file of ours. */
const FOREIGN_FRAME = /^\s+at .*(\/node_modules\/|\(<anonymous>\)|\(?node:)/;

/** The full names of the tests that did not run. */
export function leftOut(report: VitestReport): string[] {
  const tests = report.testResults.flatMap((file) => file.assertionResults);
  return tests
    .filter(({ status }) => status === 'pending' || status === 'skipped')
    .map(({ fullName }) => fullName);
}

/** What failed, in the report's order. A file that fails outside of its tests counts once: none may be lost silently. */
export function failures(report: VitestReport): Failure[] {
  return report.testResults.flatMap(failuresOf);
}

/** `Failed (N):` and under it each failure's name, file and the first lines of its message, without colours and vitest's own frames. */
export function failedList(failed: readonly Failure[]): string {
  return [`Failed (${failed.length}):`, ...failed.flatMap(linesOf)].join('\n');
}

function failuresOf({ name, status, message, assertionResults }: FileResult): Failure[] {
  const file = relative(root, name);
  const failed = assertionResults
    .filter((test) => test.status === 'failed')
    .map((test) => ({ name: test.fullName, file, message: test.failureMessages.join('\n') }));
  if (failed.length > 0 || status !== 'failed') return failed;
  // The report has no message of a hook of a suite within the file.
  return [{ name: 'outside of its tests', file, message: message || 'in a hook: see above' }];
}

function linesOf({ name, file, message }: Failure): string[] {
  const lines = stripVTControlCharacters(message).split('\n');
  const own = lines.filter((line) => line.trim() !== '' && !FOREIGN_FRAME.test(line));
  const shown = own.slice(0, MAX_MESSAGE_LINES);
  return [`  ${name}`, `    ${file}`, ...shown.map((line) => `      ${line.trimEnd()}`)];
}
