// x-blockdev-amend: what may be asked of which node, and the job.

import { type Area, ask, type Case, type CommandPair, scene } from '../case.ts';

const amend = (options: unknown, more: object = {}): CommandPair => [
  'x-blockdev-amend',
  { 'job-id': 'j', 'node-name': 'q', options, ...more },
];
const refuse = (args?: object): Case => ask('x-blockdev-amend', args);
const dismiss: CommandPair = ['job-dismiss', { id: 'j' }];

const refused: Case[] = [
  refuse(),
  refuse({}),
  refuse({ 'job-id': 'j' }),
  refuse({ 'job-id': 'j', 'node-name': 'q' }),
  refuse({ 'job-id': 'j', 'node-name': 'q', options: {} }),
  refuse({ 'job-id': 'j', 'node-name': 'q', options: 'qcow2' }),
  refuse({ 'job-id': 'j', 'node-name': 'q', options: { driver: 'nope' } }),
  refuse({ 'job-id': 'j', 'node-name': 'q', options: { driver: 'qcow2', size: 5 } }),
  refuse({ 'job-id': 'j', 'node-name': 'q', options: { driver: 'qcow2' }, force: 'yes' }),
  refuse({ 'job-id': 'j', 'node-name': 'q', options: { driver: 'raw' } }),
  refuse({ 'job-id': 'j', 'node-name': 'r', options: { driver: 'raw' } }),
  refuse({ 'job-id': 'j', 'node-name': 'r', options: { driver: 'qcow2' } }),
  refuse({ 'job-id': 'j', 'node-name': 'r', options: { driver: 'null-co' } }),
  refuse({ 'job-id': 'j', 'node-name': 'f', options: { driver: 'file' } }),
  refuse({ 'job-id': 'j', 'node-name': 'nope', options: { driver: 'qcow2' } }),
  refuse({ 'job-id': '', 'node-name': 'q', options: { driver: 'qcow2' } }),
  refuse({ 'job-id': '#j', 'node-name': 'nope', options: { driver: 'raw' } }),
];

const jobs: Case[] = [
  scene(
    'nothing to change',
    amend({ driver: 'qcow2' }),
    'query-jobs',
    amend({ driver: 'qcow2' }),
    dismiss,
  ),
  scene('by force', amend({ driver: 'qcow2' }, { force: true }), 'query-jobs', dismiss),
  scene(
    'of an image that is only read',
    amend({ driver: 'qcow2' }, { 'node-name': 'ro' }),
    'query-jobs',
    dismiss,
  ),
  scene(
    'a node of a job that was not dismissed',
    amend({ driver: 'qcow2' }, { 'node-name': 'ro' }),
    ['blockdev-del', { 'node-name': 'ro' }],
    dismiss,
    ['blockdev-del', { 'node-name': 'ro' }],
  ),
  scene('the image', { do: 'inspect', file: 'a.qcow2' }),
];

export const amendments: Area = {
  name: 'amend',
  groups: [
    {
      name: 'x-blockdev-amend',
      files: [
        { name: 'a.qcow2', qcow2: { data: [1] } },
        { name: 'b.qcow2', qcow2: {} },
      ],
      arguments: [
        '--blockdev',
        'driver=file,node-name=f,filename=@DIR@/a.qcow2',
        '--blockdev',
        'driver=qcow2,node-name=q,file=f',
        '--blockdev',
        'driver=qcow2,node-name=ro,read-only=on,file.driver=file,file.filename=@DIR@/b.qcow2',
        '--blockdev',
        'driver=raw,node-name=r,file.driver=null-co',
      ],
      cases: [...refused, ...jobs],
    },
  ],
};
