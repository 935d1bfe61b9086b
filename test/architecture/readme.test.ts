// The README's table of features against the schema, the NBD tables and the reference's own introspection answer.

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { commands as nbdCommands } from '../../src/export/nbd/commands.ts';
import { options as nbdOptions } from '../../src/export/nbd/options.ts';
import { nameOfCommand, nameOfOption } from '../../src/net/nbd/protocol.ts';
import { commandTable } from '../../src/qapi/generated/commands.ts';
import {
  BlockdevDriverValues,
  BlockExportTypeValues,
  ChardevBackendKindValues,
  JobTypeValues,
  ObjectTypeValues,
  SocketAddressTypeValues,
  TransactionActionKindValues,
} from '../../src/qapi/generated/enums.ts';
import { eventNames } from '../../src/qapi/generated/events.ts';
import { laterQemuEntries } from '../schema/differences.ts';

interface ReferenceEntity {
  readonly name: string;
  readonly 'meta-type': string;
  readonly values?: readonly string[];
}

const reference = JSON.parse(
  readFileSync(new URL('../fixtures/query-qmp-schema-7.2.22.json', import.meta.url), 'utf8'),
) as readonly ReferenceEntity[];

interface Row {
  readonly title: string;
  readonly here: readonly string[];
  /** What the reference has; undefined where its introspection does not tell. */
  readonly ofReference?: readonly string[];
}

const rows: readonly Row[] = [
  { title: 'QMP commands', here: Object.keys(commandTable), ofReference: entities('command') },
  { title: 'QMP events', here: eventNames, ofReference: entities('event') },
  { title: 'block drivers', here: BlockdevDriverValues, ofReference: enumWith('qcow2') },
  { title: 'jobs', here: JobTypeValues, ofReference: enumWith('snapshot-load') },
  {
    title: 'transaction actions',
    here: TransactionActionKindValues,
    ofReference: enumWith('blockdev-backup'),
  },
  { title: 'export types', here: BlockExportTypeValues, ofReference: enumWith('vduse-blk') },
  { title: 'socket addresses', here: SocketAddressTypeValues, ofReference: enumWith('vsock') },
  { title: 'objects', here: ObjectTypeValues },
  { title: 'chardevs', here: ChardevBackendKindValues },
  { title: 'NBD options', here: Object.keys(nbdOptions).map((option) => nameOfOption(+option)) },
  { title: 'NBD commands', here: Object.keys(nbdCommands).map((type) => nameOfCommand(+type)) },
];

const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
const table = readme.slice(readme.indexOf('## What is supported'));

describe('README: What is supported', () => {
  it.each(rows)('names exactly the $title that there are', ({ title, here }) => {
    const named = [...cells(title)[1].matchAll(/`([^`]+)`/g)].map((match) => match[1] ?? '');
    expect(named.toSorted()).toEqual([...here].toSorted());
  });

  it.each(rows.filter((row) => row.ofReference !== undefined))(
    'counts the $title of the reference',
    ({ title, here, ofReference = [] }) => {
      const known = here.filter((name) => ofReference.includes(name)).length;
      const later = here.filter((name) => laterQemuEntries.includes(name)).length;
      const own = here.length - known - later;
      const newer = later === 0 ? '' : `, ${later} of later QEMU`;
      const more = own === 0 ? '' : `, and ${own} of our own`;
      expect(cells(title)[2]).toBe(`${known} of ${ofReference.length}${newer}${more}`);
    },
  );
});

function cells(title: string): readonly [string, string, string] {
  const line = table.split('\n').find((candidate) => candidate.startsWith(`| ${title} |`));
  if (line === undefined) throw new Error(`The README's table has no row for ${title}`);
  const [, first = '', second = '', third = ''] = line.split('|').map((cell) => cell.trim());
  return [first, second, third];
}

function entities(metaType: string): readonly string[] {
  return reference
    .filter((entity) => entity['meta-type'] === metaType)
    .map((entity) => entity.name);
}

/** The values of the reference's enumeration that contains this one. */
function enumWith(value: string): readonly string[] {
  const found = reference.find(
    (entity) => entity['meta-type'] === 'enum' && entity.values?.includes(value),
  );
  if (found?.values === undefined)
    throw new Error(`The reference has no enumeration with ${value}`);
  return found.values;
}
