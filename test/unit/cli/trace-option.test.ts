import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { createLineLogger } from '../../../src/base/log.ts';
import { createTrace } from '../../../src/base/trace.ts';
import { applyTraceOption, traceHelp } from '../../../src/cli/trace-option.ts';
import { tempDir } from '../../helpers/temp-dir.ts';

function apply(...options: string[]) {
  let text = '';
  const trace = createTrace();
  const log = createLineLogger('prog', (line) => (text += line));
  const outcomes = options.map((option) => applyTraceOption(option, trace, log));
  const enabled = Object.values(trace)
    .filter((point) => point.enabled)
    .map(({ name }) => name);
  return { enabled, text, outcome: outcomes.at(-1) };
}

describe('applyTraceOption', () => {
  it('switches on what matches, and off what matches behind a dash', () => {
    expect(apply('nbd_receive_request').enabled).toEqual(['nbd_receive_request']);
    const { enabled } = apply('nbd_*', '-nbd_negotiate_*');
    expect(enabled).toContain('nbd_receive_request');
    expect(enabled).not.toContain('nbd_negotiate_success');
    expect(enabled.every((name) => name.startsWith('nbd_'))).toBe(true);
  });

  it('warns about a name that is not there, but not about a pattern', () => {
    expect(apply('nope').text).toBe(`prog: warning: trace event 'nope' does not exist\n`);
    expect(apply('-nope').text).toBe(`prog: warning: trace event 'nope' does not exist\n`);
    expect(apply('nope*').text).toBe('');
  });

  it('reads patterns from a file', () => {
    const file = path.join(tempDir(), 'events');
    writeFileSync(file, '# all of it\n\nnope\nnbd_receive_request\n');
    const { enabled, text } = apply(`events=${file}`);
    expect(enabled).toEqual(['nbd_receive_request']);
    expect(text).toBe(`prog:${file}:3: warning: trace event 'nope' does not exist\n`);
  });

  it('reports a file that cannot be read', () => {
    const { outcome, text } = apply('events=/nonexistent');
    expect(outcome).toEqual({ failed: true });
    expect(text).toBe('prog:/nonexistent: No such file or directory\n');
  });

  it('lists the names for help', () => {
    expect(apply('help').outcome).toEqual({ print: { text: traceHelp(), exitCode: 0 } });
    expect(traceHelp()).toContain('\nnbd_receive_request\n');
  });

  it('names the file to write to', () => {
    expect(apply('nbd_*,file=/tmp/x').outcome).toEqual({ file: '/tmp/x' });
  });
});
