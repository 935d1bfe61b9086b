// What `make test` prints below vitest's own output, from reports of vitest's shape.

import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { failedList, failures, leftOut, type VitestReport } from '../../config/report.ts';
import { root } from '../../config/shared.ts';

const passed = { status: 'passed', fullName: 'suite works', failureMessages: [] };
const stack = [
  '\u001b[31mexpected 1 to be 2\u001b[39m',
  '',
  '    at /clone/test/some.test.ts:1:2',
  '    at file:///clone/node_modules/@vitest/runner/dist/index.js:302:11',
  '    at new Promise (<anonymous>)',
  '    at process.processTicksAndRejections (node:internal/process/task_queues:95:5)',
].join('\n');
const failed = { status: 'failed', fullName: 'suite does not work', failureMessages: [stack] };
const skipped = { status: 'skipped', fullName: 'suite waits', failureMessages: [] };

describe('the report of a test run', () => {
  it('tells each failed test by full name, file and message, without colours, blank lines and frames of vitest', () => {
    const report = of({ status: 'failed', message: '', assertionResults: [passed, failed] });
    expect(failedList(failures(report))).toBe(
      [
        'Failed (1):',
        '  suite does not work',
        '    test/some.test.ts',
        '      expected 1 to be 2',
        '          at /clone/test/some.test.ts:1:2',
      ].join('\n'),
    );
  });

  it('shows the first twelve lines of a long message', () => {
    const failureMessages = [Array.from({ length: 40 }, (_, i) => `line ${i}`).join('\n')];
    const report = of({
      status: 'failed',
      message: '',
      assertionResults: [{ ...failed, failureMessages }],
    });
    const list = failedList(failures(report)).split('\n');
    expect(list).toHaveLength(3 + 12);
    expect(list.at(-1)).toBe('      line 11');
  });

  it('counts a file that failed outside of its tests once, with its message', () => {
    const report = of({ status: 'failed', message: 'no such module', assertionResults: [passed] });
    expect(failures(report)).toEqual([
      { name: 'outside of its tests', file: 'test/some.test.ts', message: 'no such module' },
    ]);
    const hook = of({ status: 'failed', message: '', assertionResults: [passed] });
    expect(failures(hook)).toMatchObject([{ message: 'in a hook: see above' }]);
  });

  it('tells what was left out, and no failure where there is none', () => {
    const report = of({ status: 'passed', message: '', assertionResults: [passed, skipped] });
    expect(failures(report)).toEqual([]);
    expect(leftOut(report)).toEqual(['suite waits']);
  });
});

function of(file: Omit<VitestReport['testResults'][number], 'name'>): VitestReport {
  return { numPassedTests: 1, testResults: [{ name: join(root, 'test/some.test.ts'), ...file }] };
}
