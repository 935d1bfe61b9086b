import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ours, reference } from '../conformance/side.ts';
import { referenceMissing } from '../helpers/reference.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { examine } from './client-conformance/examine.ts';
import { sections } from './client-conformance/index.ts';
import { clientConformanceReport } from './client-conformance/report.ts';
import type { Outcome, Rule } from './client-conformance/rule.ts';
import { SubjectDaemon } from './client-conformance/subject-client.ts';

const document = join(import.meta.dirname, 'NBD-CLIENT-CONFORMANCE.md');

const cases = sections.flatMap(({ name, rules }) =>
  rules.map((rule) => ({ name: `${name}: ${rule.text}`, rule })),
);

async function outcome(daemon: SubjectDaemon, rule: Rule, expected: Outcome): Promise<Outcome> {
  const client = daemon.client();
  try {
    return await examine(rule, { client, expected, directory: tempDir() });
  } finally {
    client.close();
  }
}

describe('a server that breaks a rule', () => {
  let daemon: SubjectDaemon;
  beforeAll(async () => {
    daemon = await SubjectDaemon.start(ours());
  });
  afterAll(async () => {
    expect(await daemon.stop()).toBe('<exit 0>');
  });

  it.each(cases)('$name', async ({ rule }) => {
    expect(await outcome(daemon, rule, rule.ours)).toEqual(rule.ours);
    expect(await daemon.isWell()).toBe(true);
  });
});

const why = referenceMissing();

describe.skipIf(why !== undefined)(`the reference as its client${why ? ` (${why})` : ''}`, () => {
  let daemon: SubjectDaemon;
  beforeAll(async () => {
    daemon = await SubjectDaemon.start(reference());
  });
  afterAll(async () => {
    await daemon.stop();
  });

  it('does as NBD-CLIENT-CONFORMANCE.md says', async () => {
    for (const { name, rule } of cases) {
      const { ours: same, reference: other = same } = rule;
      if (typeof other === 'string') continue;
      expect(await outcome(daemon, rule, other), name).toEqual(other);
    }
  });
});

describe('NBD-CLIENT-CONFORMANCE.md', () => {
  it('has each rule once', () => {
    const names = cases.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
  });

  it('is what `make nbd-conformance` prints', () => {
    expect(readFileSync(document, 'utf8')).toBe(clientConformanceReport());
  });
});
