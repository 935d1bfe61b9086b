// Medians and ratios of the measurements against the targets, and the table that people read.

import type { Row } from './rows.ts';

/** Row name -> contestant -> values of all rounds. */
export type Measurements = Map<string, Map<string, number[]>>;

export interface Verdict {
  readonly name: string;
  readonly unit: string;
  readonly better: Row['better'];
  readonly medians: { readonly [contestant: string]: number };
  readonly ratios: readonly {
    readonly against: string;
    readonly ratio: number;
    readonly target: number;
    readonly met: boolean;
  }[];
  readonly bound?: number;
  /** Undefined where the row has no target that could be measured. */
  readonly met: boolean | undefined;
  readonly values: { readonly [contestant: string]: readonly number[] };
}

export function verdicts(rows: readonly Row[], measurements: Measurements): Verdict[] {
  return rows.flatMap((row) => {
    const values = measurements.get(row.name);
    if (values === undefined) return [];
    const medians = Object.fromEntries([...values].map(([who, list]) => [who, median(list)]));
    const own = medians['ours'];
    const ratios = row.targets.flatMap(({ against, ratio: target }) => {
      const theirs = medians[against];
      if (own === undefined || theirs === undefined) return [];
      const ratio = own / theirs;
      return [
        { against, ratio, target, met: row.better === 'more' ? ratio >= target : ratio <= target },
      ];
    });
    const isBounded =
      row.bound === undefined ||
      own === undefined ||
      (row.better === 'more' ? own >= row.bound : own <= row.bound);
    const hasTarget = ratios.length > 0 || row.bound !== undefined;
    return [
      {
        name: row.name,
        unit: row.unit,
        better: row.better,
        medians,
        ratios,
        ...(row.bound === undefined ? {} : { bound: row.bound }),
        met: hasTarget ? isBounded && ratios.every(({ met }) => met) : undefined,
        values: Object.fromEntries(values),
      },
    ];
  });
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2;
}

const contestants = ['ours', 'reference', 'nbdkit', 'bare loop', 'node -e 0'] as const;

export function formatTable(results: readonly Verdict[]): string {
  const head = ['work', 'unit', ...contestants, 'ours / theirs (target)', ''];
  const lines = results.map((result) => [
    result.name,
    result.unit,
    ...contestants.map((who) => spelled(result.medians[who])),
    [
      ...result.ratios.map(
        ({ against, ratio, target }) => `${ratio.toFixed(2)} ${against} (${target})`,
      ),
      ...(result.bound === undefined
        ? []
        : [`${result.better === 'more' ? 'at least' : 'at most'} ${result.bound} ${result.unit}`]),
    ].join(', '),
    result.met === undefined ? '' : result.met ? 'met' : 'MISSED',
  ]);
  const table = [head, ...lines];
  const widths = head.map((_, column) =>
    Math.max(...table.map((line) => line[column]?.length ?? 0)),
  );
  return table
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

function spelled(value: number | undefined): string {
  if (value === undefined) return '-';
  return value >= 100 ? Math.round(value).toLocaleString('en') : value.toFixed(1);
}
