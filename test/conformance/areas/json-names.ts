// Names of the form `json:{...}` in the headers of qcow2 images: which nodes they stand for, what those are called, and what is
// wrong with the others.

import { type Area, type CommandPair, scene } from '../case.ts';
import { MIB } from '../sizes.ts';

const raw = (more: object): string => json({ driver: 'raw', file: file('disk.img'), ...more });
const qcow2 = (more: object): string =>
  json({ driver: 'qcow2', file: file('relative.qcow2'), ...more });
const file = (filename: string): object => ({ driver: 'file', filename });
const json = (options: object): string => `json:${JSON.stringify(options)}`;

const spelled = raw({ size: '64k', offset: '65536', 'read-only': 'on' });

/** What the header has, and its format, if it has one. */
const names: readonly (readonly [name: string, format?: string])[] = [
  [raw({})],
  [raw({}), 'raw'],
  [qcow2({}), 'qcow2'],
  [qcow2({}), 'raw'],
  [json({ driver: 'qcow2', 'file.driver': 'file', 'file.filename': 'relative.qcow2' }), 'qcow2'],
  [json({ driver: 'qcow2', 'file.filename': 'relative.qcow2' })],
  [json({ 'file.filename': 'relative.qcow2' })],
  [json({ 'file.filename': 'disk.img' })],
  [json({ file: file('relative.qcow2') })],
  [json({ file: file('relative.qcow2') }), 'qcow2'],
  [json(file('disk.img'))],
  [json(file('disk.img')), 'raw'],
  [json({ filename: 'disk.img' })],
  [json({ driver: 'null-co', size: MIB })],
  [json({ driver: 'null-co', size: MIB, 'read-zeroes': true }), 'null-co'],
  ["json:{'driver':'null-co'}"],
  [json({ driver: 'null-co', bogus: true })],
  [raw({ size: 1024, offset: 512 })],
  [raw({ size: 1000 })],
  [spelled, 'raw'],
  [raw({ file: { driver: 'null-co', size: '1M', 'read-zeroes': 'on' } }), 'raw'],
  [raw({ bogus: 'x' })],
  [raw({ file: { ...file('disk.img'), bogus: 1 } })],
  [raw({ file: file('none.img') })],
  [raw({ file: 'n' })],
  [raw({ file: 'none' })],
  [raw({ file: { driver: 'file' } })],
  [raw({ file: {} })],
  [raw({ file: null })],
  [raw({ 'file.driver': 'file', file: 'n' })],
  [raw({ file: { filename: raw({}) } })],
  [raw({ file: { driver: 'qcow2', file: file('relative.qcow2') } })],
  [raw({ 'node-name': 'below', file: { ...file('disk.img'), 'node-name': 'lowest' } })],
  [raw({ 'node-name': 'n' })],
  [raw({ 'node-name': '9' })],
  [raw({ 'read-only': false })],
  [raw({ 'read-only': 'off' })],
  [raw({ 'read-only': 'nope' })],
  [raw({ 'cache.no-flush': 'on', discard: 'unmap', 'detect-zeroes': 'unmap' })],
  [raw({ discard: 'nope' })],
  [raw({ 'detect-zeroes': 'nope' })],
  [qcow2({ backing: null })],
  [qcow2({ 'lazy-refcounts': 'on', 'overlap-check.template': 'all' })],
  [qcow2({ 'overlap-check': 'all', 'l2-cache-size': '64k' })],
  [qcow2({ 'l2-cache-size': -5 })],
  [qcow2({ 'l2-cache-size': 'much' })],
  [json({ driver: 'copy-on-read', file: file('disk.img') })],
  [json({ driver: 'quorum', 'vote-threshold': 1, children: [file('disk.img')] })],
  [json({ driver: 'quorum', 'vote-threshold': 1, 'children.0.filename': 'disk.img' })],
  [raw({ file: { driver: 'nbd', server: { type: 'unix', path: 'none.sock' } } })],
  [raw({ file: { driver: 'nbd', 'server.type': 'unix', 'server.path': 'none.sock' } })],
  [raw({ file: { driver: 'nbd', path: 'none.sock' } })],
  [raw({ file: { driver: 'nbd', path: 'none.sock', host: 'h' } })],
  [raw({ file: { driver: 'nbd', path: 'none.sock', port: '1' } })],
  [raw({ file: { driver: 'nbd', path: 'none.sock', server: { type: 'unix', path: 'x' } } })],
  [json({ driver: 'nbd', server: { type: 'inet', host: '127.0.0.1', port: 1 } }), 'nbd'],
  [json({ driver: 'nope' })],
  [json({ driver: null })],
  [json({}), 'raw'],
  [json({})],
  ['json:'],
  ['json:{'],
  ['json:[]'],
  ['json:"n"'],
  ['json:{"driver":}'],
  ['json:{} {}'],
  ['json:{"driver":"raw","driver":"raw"}'],
];

/** Of external data files: paths, whatever they look like. */
const dataNames: readonly string[] = [
  'disk.img',
  'file:disk.img',
  'nbd:unix:none.sock',
  json(file('disk.img')),
];
/** The feature bit, and the header extension with the name. */
const dataFile = (name: string): readonly (readonly [number, string])[] => [
  [79, '04'],
  [112, `44415441${name.length.toString(16).padStart(8, '0')}${Buffer.from(name).toString('hex')}`],
];

const add = (index: number | string, more: object = {}): CommandPair => [
  'blockdev-add',
  {
    driver: 'qcow2',
    'node-name': 'q',
    file: { driver: 'file', filename: `@DIR@/${index}.qcow2` },
    ...more,
  },
];
const query: CommandPair = ['query-named-block-nodes', { flat: true }];
const del: CommandPair = ['blockdev-del', { 'node-name': 'q' }];

export const jsonNames: Area = {
  name: 'json-names',
  groups: [
    {
      name: 'backing',
      files: [
        { name: 'disk.img', length: MIB },
        { name: 'relative.qcow2', qcow2: { backing: { file: 'disk.img', format: 'raw' } } },
        ...names.map(([name, format = ''], index) => ({
          name: `${index}.qcow2`,
          qcow2: { backing: { file: name, format } },
        })),
      ],
      cases: [
        scene('a node to refer to', [
          'blockdev-add',
          { driver: 'null-co', 'node-name': 'n', size: MIB },
        ]),
        ...names.map(([name, format = 'none'], index) =>
          scene(`${name} ${format}`, add(index), query, del),
        ),
        scene('not looked at when a backing file is given', add(0, { backing: null }), query, del),
        scene(
          'strings for numbers in an image that is reopened',
          [
            'blockdev-add',
            {
              ...file(`@DIR@/${names.findIndex(([name]) => name === spelled)}.qcow2`),
              'node-name': 'below',
            },
          ],
          add('', { file: 'below' }),
          ['change-backing-file', { device: 'q', 'image-node-name': 'q', 'backing-file': 'x' }],
          ['blockdev-reopen', { options: [{ driver: 'qcow2', 'node-name': 'q', file: 'below' }] }],
          query,
          del,
          ['blockdev-del', { 'node-name': 'below' }],
        ),
        ...[{ driver: 'null-co' }, { driver: 'raw', file: 'n' }, file('disk.img')].map((backing) =>
          scene(
            `beside a backing file's options: ${JSON.stringify(backing)}`,
            add('relative', { backing }),
            del,
          ),
        ),
      ],
    },
    {
      name: 'data file',
      files: [
        { name: 'disk.img', length: MIB },
        ...dataNames.map((name, index) => ({
          name: `d${index}.qcow2`,
          qcow2: { patches: dataFile(name) },
        })),
      ],
      cases: dataNames.map((name, index) => scene(name, add(`d${index}`), query, del)),
    },
  ],
};
