// The answer to query-qmp-schema against the reference's, recorded from qemu-storage-daemon 7.2.22.

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { unreachable } from '../../codegen/errors.ts';
import { commandTable } from '../../src/qapi/generated/commands.ts';
import { eventNames } from '../../src/qapi/generated/events.ts';
import { introspection } from '../../src/qapi/generated/introspection.ts';
import type { SchemaInfo } from '../../src/qapi/generated/types.ts';
import { compareIntrospection } from './compare-introspection.ts';
import {
  additions,
  type DifferenceRow,
  laterQemu,
  laterQemuEntries,
  leftOut,
  notYet,
  ownEntries,
} from './differences.ts';

const notInReference = [...laterQemuEntries, ...ownEntries];

const recorded = new URL('../fixtures/query-qmp-schema-7.2.22.json', import.meta.url);
const reference = JSON.parse(readFileSync(recorded, 'utf8')) as SchemaInfo[];

function listed(rows: readonly DifferenceRow[], verb: 'added' | 'omitted'): string[] {
  return rows.flatMap(({ at, what, names }) =>
    names.map((name) => `${at}: ${what} ${name} ${verb}`),
  );
}

/** Every type name that an entry mentions. */
function typesUsed(entry: SchemaInfo): string[] {
  switch (entry['meta-type']) {
    case 'array':
      return [entry['element-type']];
    case 'alternate':
      return entry.members.map((member) => member.type);
    case 'object':
      return [...entry.members, ...(entry.variants ?? [])].map((each) => each.type);
    case 'command':
      return [entry['arg-type'], entry['ret-type']];
    case 'event':
      return [entry['arg-type']];
    case 'builtin':
    case 'enum':
      return [];
    default:
      return unreachable(entry);
  }
}

describe('query-qmp-schema', () => {
  const names = introspection.map((entry) => entry.name);

  it('differs from the reference exactly as the table says', () => {
    const intended = [
      ...listed([...laterQemu, ...additions], 'added'),
      ...listed([...leftOut, ...notYet], 'omitted'),
      ...notInReference.map((name) => `${name}: the reference has no such entry`),
    ];
    expect(compareIntrospection(introspection, reference).sort()).toEqual(intended.sort());
  });

  it('lists every command and event that exists, and no other', () => {
    const of = (meta: string) =>
      introspection.filter((entry) => entry['meta-type'] === meta).map((entry) => entry.name);
    expect(of('command').sort()).toEqual(Object.keys(commandTable).sort());
    expect(of('event').sort()).toEqual([...eventNames].sort());
  });

  it('marks what is ours as unstable', () => {
    const own = introspection.filter((entry) => ownEntries.includes(entry.name));
    expect(own.map(({ name, features }) => [name, features])).toEqual(
      own.map(({ name }) => [name, ['unstable']]),
    );
    expect(own).toHaveLength(ownEntries.length);
  });

  it('gives every entry a name of its own', () => {
    expect(new Set(names).size).toBe(names.length);
  });

  it('describes every type that it mentions, and mentions every type that it describes', () => {
    const used = new Set(introspection.flatMap(typesUsed));
    const described = introspection
      .filter((entry) => entry['meta-type'] !== 'command' && entry['meta-type'] !== 'event')
      .map((entry) => entry.name);
    expect([...used].sort()).toEqual(described.sort());
  });

  it('masks the names of types as numbers in the order of their first use', () => {
    const masked = introspection.filter((entry) =>
      ['object', 'enum', 'alternate'].includes(entry['meta-type']),
    );
    const numbers = masked.map((entry) => Number(entry.name)).sort((a, b) => a - b);
    expect(numbers).toEqual(masked.map((_, index) => index));
    const first = introspection.find((entry) => typesUsed(entry).includes('0'));
    expect(introspection.indexOf(first as SchemaInfo)).toBe(0);
  });

  it('lists commands and events in the order in which the reference lists them', () => {
    const inOrder = (entries: readonly SchemaInfo[]) =>
      entries
        .filter((entry) => entry['meta-type'] === 'command' || entry['meta-type'] === 'event')
        .map((entry) => entry.name);
    const ours = inOrder(introspection).filter((name) => !notInReference.includes(name));
    expect(ours).toEqual(inOrder(reference).filter((name) => ours.includes(name)));
  });

  it('turns every integer type into int', () => {
    const builtins = introspection.filter((entry) => entry['meta-type'] === 'builtin');
    const known = new Set(
      reference.filter((entry) => entry['meta-type'] === 'builtin').map((entry) => entry.name),
    );
    expect(builtins.every((entry) => known.has(entry.name))).toBe(true);
  });
});

describe('commandTable', () => {
  it('is in the order of the reference, which lists the last command first', () => {
    const commands = reference.filter((entry) => entry['meta-type'] === 'command').reverse();
    const ours = Object.keys(commandTable).filter((name) => !notInReference.includes(name));
    expect(ours).toEqual(commands.map(({ name }) => name).filter((name) => ours.includes(name)));
  });
});

describe('compareIntrospection', () => {
  const clone = () => structuredClone(reference);
  const find = (entries: SchemaInfo[], name: string) => {
    const entry = entries.find((each) => each.name === name);
    if (entry === undefined) throw new Error(`no entry ${name}`);
    return entry;
  };

  it('finds nothing between an answer and itself', () => {
    expect(compareIntrospection(reference, clone())).toEqual([]);
  });

  it('does not mind other masks', () => {
    const renamed = JSON.parse(
      JSON.stringify(reference).replace(/"(\[?)(\d+)(\]?)"/g, '"$1t$2$3"'),
    ) as SchemaInfo[];
    expect(compareIntrospection(renamed, reference)).toEqual([]);
  });

  it('notices a changed feature, an optional member made required, and a changed type', () => {
    const other = clone();
    find(other, 'nbd-server-add').features = ['unstable'];
    const options = other.find(
      (entry) =>
        entry['meta-type'] === 'object' && entry.members.some((each) => each.name === 'tight'),
    );
    if (options?.['meta-type'] !== 'object') throw new Error('no unix socket address');
    for (const member of options.members) {
      if (member.name === 'abstract') delete member.default;
      if (member.name === 'path') member.type = 'bool';
    }
    const found = compareIntrospection(other, reference).join('\n');
    expect(found).toContain('nbd-server-add: features is ["unstable"], not ["deprecated"]');
    expect(found).toContain('.abstract: optional is false, not true');
    expect(found).toContain('.path: json-type is "boolean", not "string"');
  });
});
