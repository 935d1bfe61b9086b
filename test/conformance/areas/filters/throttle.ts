// throttle: groups with their limits, and nodes that are in one.

import { ask, type Case, scene, verbatim } from '../../case.ts';
import { again, del, node } from '../../node-commands.ts';
import { common } from './common.ts';
import { delObject, file, get, object, query, set, tryNode } from './steps.ts';

const group = (more: object = {}): object => ({ 'qom-type': 'throttle-group', id: 'g', ...more });
const tryGroup = (more: object): Case => ({
  id: ask('object-add', group(more)).id,
  steps: scene('', object(group(more)), get('g', 'limits'), delObject('g')).steps,
});
const limitCases: readonly object[] = [
  {},
  { 'iops-total': 100 },
  { 'iops-total': 0 },
  { 'iops-total': -1 },
  { 'iops-total': 1e15 },
  { 'iops-total': 1_000_000_000_000_001 },
  { 'iops-total': verbatim('1.0') },
  { 'iops-total': '5' },
  { 'iops-total': null },
  { 'iops-total': 1, 'iops-read': 1 },
  { 'iops-total': 1, 'bps-read': 1 },
  { 'bps-total': 1, 'bps-write': 1 },
  { 'bps-read': 1, 'bps-write': 1 },
  { 'bps-total': 1, 'bps-total-max': 1, 'bps-read': 2, 'bps-read-max': 3 },
  { 'bps-total': 10, 'bps-total-max': 20 },
  { 'bps-total': 10, 'bps-total-max': 5 },
  { 'bps-total': 10, 'bps-total-max': -5 },
  { 'bps-total-max': 5 },
  { 'bps-total': 10, 'bps-total-max': 20, 'bps-total-max-length': 30 },
  { 'bps-total': 10, 'bps-total-max-length': 30 },
  { 'bps-total': 10, 'bps-total-max-length': 1 },
  { 'bps-total': 10, 'bps-total-max-length': 0 },
  { 'bps-total': 10, 'bps-total-max': 20, 'bps-total-max-length': -1 },
  { 'bps-total': 10, 'bps-total-max': 20, 'bps-total-max-length': 4_294_967_295 },
  { 'bps-total': 10, 'bps-total-max': 20, 'bps-total-max-length': 4_294_967_296 },
  { 'bps-total': 10, 'bps-total-max': 1e15, 'bps-total-max-length': 2 },
  { 'iops-size': 4096 },
  { 'iops-size': 4096, 'iops-read': 5 },
  { 'iops-size': -1, 'iops-write': 5 },
  { bogus: 1 },
];

export const throttleGroups: Case[] = [
  ...limitCases.map((limits) => tryGroup({ limits })),
  ...limitCases.map((limits) =>
    tryGroup(
      Object.fromEntries(Object.entries(limits).map(([name, value]) => [`x-${name}`, value])),
    ),
  ),
  ...[5, null, [], 'x'].map((limits) => tryGroup({ limits })),
  tryGroup({ limits: { 'iops-total': 5 }, 'x-iops-total': 6 }),
  tryGroup({ limits: { 'iops-total': 5 }, 'x-bps-total': 6 }),
  tryGroup({ limits: { 'iops-total': 5 }, 'x-iops-read': 6 }),
  tryGroup({ limits: { 'iops-total': 5, 'iops-total-max': 10 }, 'x-iops-total': 20 }),
  scene(
    'throttle-group as an object',
    object(group({ 'x-iops-total': 10 })),
    object(group({ 'x-iops-total': 10 })),
    ['qom-list', { path: '/objects/g' }],
    ['qom-list-properties', { typename: 'throttle-group' }],
    get('g', 'limits'),
    get('g', 'x-iops-total'),
    get('g', 'x-iops-total-max-length'),
    get('g', 'x-bps-write'),
    set('g', 'x-iops-total', 5),
    set('g', 'x-iops-total', 'no'),
    set('g', 'limits', 5),
    set('g', 'limits', {}),
    get('g', 'limits'),
    set('g', 'limits', { bogus: 5 }),
    set('g', 'limits', { 'iops-total': 'x' }),
    set('g', 'limits', { 'iops-read': 5 }),
    set('g', 'limits', { 'bps-read': 5 }),
    get('g', 'limits'),
    set('g', 'limits', { 'iops-total': 0, 'iops-read': 7 }),
    get('g', 'x-iops-read'),
    delObject('g'),
    delObject('g'),
  ),
  scene(
    'limits that are wrong, of an id that is taken',
    object(group()),
    object(group({ limits: { 'iops-total-max': 5 } })),
    object(group({ 'x-iops-total-max': 5 })),
    object(group({ 'x-iops-total': -5 })),
    object(group({ 'x-iops-total-max-length': 2 ** 32 })),
    delObject('g'),
  ),
];

export const throttleNodes: Case[] = [
  ...common('throttle', { 'throttle-group': 'shared' }),
  tryNode('throttle', { file: 'f' }),
  tryNode('throttle', { file: 'f', 'throttle-group': 'nope' }),
  tryNode('throttle', { file: 'f', 'throttle-group': '' }),
  tryNode('throttle', { file: 'f', 'throttle-group': 'secret' }),
  tryNode('throttle', { file: 'f', 'throttle-group': 5 }),
  scene(
    'a throttle group in use',
    object(group()),
    object(group({ id: 'h' })),
    node(file()),
    node({ driver: 'throttle', 'node-name': 'x', file: 'f', 'throttle-group': 'g' }),
    delObject('g'),
    again({ driver: 'throttle', 'node-name': 'x', file: 'f', 'throttle-group': 'nope' }),
    again({ driver: 'throttle', 'node-name': 'x', file: 'f', 'throttle-group': 'h' }),
    query,
    delObject('h'),
    delObject('g'),
    del('x'),
    delObject('h'),
    del('f'),
  ),
];
