import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sections } from './conformance/index.ts';
import { conformanceReport } from './conformance/report.ts';
import { examine, type Finding } from './conformance/rule.ts';
import { startSubjectServer } from './conformance/subject-server.ts';

const RULES_AT_LEAST = 80;
const document = join(import.meta.dirname, 'NBD-CONFORMANCE.md');

describe('NBD-CONFORMANCE.md', () => {
  let findings: Finding[];
  beforeAll(async () => {
    const server = await startSubjectServer();
    findings = await examine(server, sections);
    await server.close();
  });
  afterAll(() => {
    findings = [];
  });

  it('has no rule that fails', () => {
    const failed = findings.filter(({ verdict }) => verdict === 'fail');
    expect(failed.map(({ rule, detail }) => `${rule.text}: ${detail}`)).toEqual([]);
  });

  it(`has at least ${RULES_AT_LEAST} rules, each once in its section`, () => {
    const texts = findings.map(({ section, rule }) => `${section}: ${rule.text}`);
    expect(new Set(texts).size).toBe(texts.length);
    expect(texts.length).toBeGreaterThanOrEqual(RULES_AT_LEAST);
  });

  it('is what `make nbd-conformance` prints', () => {
    expect(readFileSync(document, 'utf8')).toBe(conformanceReport(findings));
  });
});
