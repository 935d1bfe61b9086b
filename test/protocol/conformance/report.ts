// The findings as the Markdown document NBD-CONFORMANCE.md.

import type { Finding } from './rule.ts';

/** The whole document. */
export function conformanceReport(findings: readonly Finding[]): string {
  const count = (verdict: Finding['verdict']): number =>
    findings.filter((finding) => finding.verdict === verdict).length;
  const lines = [
    '# NBD conformance',
    '',
    'What the [NBD protocol](https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md) asks of a server, and what this one',
    'does, found out over a socket by `make nbd-conformance`. The rules are in our words, under the headings of the specification.',
    '',
    `${findings.length} rules: ${count('pass')} pass, ${count('deviation')} deliberate deviations, ${count('fail')} fail.`,
  ];
  for (const section of new Set(findings.map((finding) => finding.section))) {
    lines.push('', `## ${section}`, '', '| level | rule | outcome |', '|---|---|---|');
    for (const finding of findings) {
      if (finding.section === section) lines.push(rowOf(finding));
    }
  }
  return `${lines.join('\n')}\n`;
}

function rowOf({ rule, verdict, detail }: Finding): string {
  const outcome = {
    pass: 'pass',
    deviation: `deliberate deviation: ${rule.deviation?.reason ?? ''}`,
    fail: `**fail**: ${detail.replaceAll(/\s+/g, ' ')}`,
  }[verdict];
  return `| ${rule.level} | ${rule.text} | ${outcome} |`;
}
