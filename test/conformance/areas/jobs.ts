// Jobs: blockdev-create of files, and everything that may be asked of a job in the states it goes through.

import { type Area, ask, type Case, type CommandPair, type Step, scene, send } from '../case.ts';
import { MIB } from '../sizes.ts';

const create = (options: object, id = 'j'): CommandPair => [
  'blockdev-create',
  { 'job-id': id, options },
];
const file = (more: object = {}): object => ({
  driver: 'file',
  filename: '@DIR@/new.img',
  size: MIB,
  ...more,
});
const of = (verb: string, id = 'j'): CommandPair => [`job-${verb}`, { id }];
const dismiss = of('dismiss');
const concluded = {
  do: 'event',
  name: 'JOB_STATUS_CHANGE',
  on: 'main',
  containing: '"status": "concluded"',
} satisfies Step;
const look: Step = { do: 'inspect', file: 'new.img' };
const stat: Step = { do: 'stat', file: 'new.img' };
const verbs = ['pause', 'resume', 'cancel', 'complete', 'finalize', 'dismiss'];

/** A job whose outcome is known only after its command is answered. */
const later = (options: object, ...more: Step[]): Case =>
  outcome(`later ${JSON.stringify(options)}`, options, ...more);
const outcome = (id: string, options: object, ...more: Step[]): Case =>
  scene(id, create(options), concluded, 'query-jobs', ...more, dismiss);
/** A job that is refused here, before there is one. */
const briefly = (id: string, options: object): Case =>
  scene(id, create(options), { ...concluded, unlessOver: true }, 'query-jobs', dismiss);
/** A job that has failed when its command is answered. */
const atOnce = (options: object): Case =>
  scene(`at once ${JSON.stringify(options)}`, create(options), 'query-jobs', dismiss);
const refuse = (args: object): Case => ask('blockdev-create', args);

const refused: Case[] = [
  ask('blockdev-create'),
  refuse({}),
  refuse({ 'job-id': 'j' }),
  refuse({ 'job-id': 5, options: file() }),
  refuse({ options: file() }),
  refuse({ 'job-id': 'j', options: 5 }),
  refuse({ 'job-id': 'j', options: {} }),
  refuse({ 'job-id': 'j', options: file(), more: 1 }),
  ...['', '1a', 'a b', '#a', '-', '.a', 'a#', 'ä', 'a/b'].map((id) =>
    refuse({ 'job-id': id, options: file() }),
  ),
  ...['raw', 'null-co', 'null-aio', 'host_device'].map((driver) =>
    refuse({ 'job-id': 'j', options: { driver } }),
  ),
  refuse({ 'job-id': '', options: { driver: 'raw' } }),
  refuse({ 'job-id': 'j', options: { driver: 'raw', filename: 'x', size: 1 } }),
  refuse({ 'job-id': 'j', options: { driver: 'nope' } }),
  refuse({ 'job-id': 'j', options: { driver: 'file' } }),
  refuse({ 'job-id': 'j', options: { driver: 'file', filename: 'x' } }),
  refuse({ 'job-id': 'j', options: { driver: 'file', size: 5 } }),
  refuse({ 'job-id': 'j', options: file({ filename: 5 }) }),
  refuse({ 'job-id': 'j', options: file({ size: '1M' }) }),
  refuse({ 'job-id': 'j', options: file({ size: 1.5 }) }),
  refuse({ 'job-id': 'j', options: file({ size: null }) }),
  refuse({ 'job-id': 'j', options: file({ preallocation: 'some' }) }),
  refuse({ 'job-id': 'j', options: file({ preallocation: true }) }),
  refuse({ 'job-id': 'j', options: file({ nocow: 'yes' }) }),
  refuse({ 'job-id': 'j', options: file({ 'extent-size-hint': 'x' }) }),
  refuse({ 'job-id': 'j', options: file({ bogus: 1 }) }),
  ask('query-jobs'),
];

const unknown: Case[] = [
  ask('query-jobs', { id: 'j' }),
  ...verbs.flatMap((verb) => [
    ask(`job-${verb}`),
    ask(`job-${verb}`, { id: 5 }),
    ask(`job-${verb}`, { id: 'j' }),
    ask(`job-${verb}`, { id: '' }),
    ask(`job-${verb}`, { id: 'j', force: true }),
  ]),
];

const files: Case[] = [
  later(file(), look, stat),
  later(file({ size: 0 }), look),
  later(file({ size: 1 }), look),
  later(file({ size: 1000 }), look),
  later(file({ size: 5000 }), look),
  later(file({ size: 64 * 1024 * MIB }), stat),
  later(file({ preallocation: 'off' }), look),
  later(file({ preallocation: 'falloc' }), look),
  later(file({ preallocation: 'falloc', size: 1000 }), look),
  later(file({ preallocation: 'falloc', size: 0 }), look),
  later(file({ preallocation: 'full' }), look),
  later(file({ preallocation: 'full', size: 100_001 }), look),
  later(file({ preallocation: 'full', size: 0 }), look),
  later(file({ preallocation: 'metadata' }), look),
  later(file({ preallocation: 'metadata', size: 0 }), look),
  later(file({ nocow: true }), look),
  later(file({ nocow: false, 'extent-size-hint': 0 }), look),
  later(file({ filename: '@DIR@/old.img' }), { do: 'inspect', file: 'old.img' }),
  later(file({ filename: '@DIR@/link.img', size: 512 }), { do: 'inspect', file: 'target.img' }),
  later(file({ filename: '/dev/null' })),
  later(file({ filename: '@DIR@/fifo' })),
  atOnce(file({ filename: '' })),
  atOnce(file({ filename: '@DIR@' })),
  atOnce(file({ filename: '@DIR@/nowhere/x' })),
  atOnce(file({ filename: '@DIR@/old.img/x' })),
  atOnce(file({ filename: `/${'a'.repeat(300)}` })),
  atOnce(file({ filename: '/dev/fdset/1' })),
  atOnce(file({ filename: '/dev/fdset/x' })),
  atOnce(file({ 'extent-size-hint': 4 * 1024 * MIB })),
  atOnce(file({ filename: '', 'extent-size-hint': 4 * 1024 * MIB })),
];

const inUse: Case[] = [
  scene(
    'a file that nobody writes is made anew under its node',
    ['blockdev-add', { driver: 'file', 'node-name': 'f', filename: '@DIR@/old.img' }],
    create(file({ filename: '@DIR@/old.img', size: 4096 })),
    concluded,
    'query-jobs',
    dismiss,
    ['query-named-block-nodes', { flat: true }],
  ),
  scene(
    'a file that somebody needs as long as it is',
    ['blockdev-add', { driver: 'raw', 'node-name': 'r', file: 'f' }],
    ['nbd-server-start', { addr: { type: 'unix', data: { path: '@DIR@/nbd.sock' } } }],
    ['block-export-add', { type: 'nbd', id: 'e', 'node-name': 'r', writable: true }],
    create(file({ filename: '@DIR@/old.img' })),
    'query-jobs',
    dismiss,
    ['block-export-del', { id: 'e' }],
    'nbd-server-stop',
  ),
];

const lives: Case[] = [
  scene(
    'a job that has concluded',
    create(file()),
    concluded,
    ...verbs.filter((verb) => verb !== 'dismiss').map((verb) => of(verb)),
    create(file()),
    dismiss,
    dismiss,
    'query-jobs',
  ),
  scene(
    'a job that has failed',
    create(file({ filename: '' })),
    ...verbs.filter((verb) => verb !== 'dismiss').map((verb) => of(verb)),
    create(file()),
    dismiss,
  ),
  scene(
    'several jobs',
    create(file(), 'b'),
    concluded,
    create(file({ filename: '@DIR@/a.img' }), 'a'),
    concluded,
    create(file({ filename: '' }), 'c.d-e_f'),
    'query-jobs',
    of('dismiss', 'a'),
    'query-jobs',
    of('dismiss', 'b'),
    of('dismiss', 'c.d-e_f'),
  ),
];

/** Long enough that all the lines are carried out before it is done. */
const slow = (id = 'j'): object => ({
  execute: 'blockdev-create',
  arguments: { 'job-id': id, options: file({ size: 128 * MIB, preallocation: 'full' }) },
});
const lines = (...commands: (object | readonly [string, string])[]): Step =>
  send(
    commands
      .map((each) =>
        Array.isArray(each) ? { execute: `job-${each[0]}`, arguments: { id: each[1] } } : each,
      )
      .map((each) => `${JSON.stringify(each)}\n`)
      .join(''),
  );
const query = { execute: 'query-jobs' };

const running: Case[] = [
  scene(
    'pause and resume',
    lines(
      slow(),
      ['resume', 'j'],
      ['pause', 'j'],
      ['pause', 'j'],
      ['resume', 'j'],
      ['resume', 'j'],
    ),
    concluded,
    'query-jobs',
    dismiss,
  ),
  scene(
    'paused to the end',
    lines(slow(), ['pause', 'j']),
    concluded,
    of('pause'),
    of('resume'),
    'query-jobs',
    dismiss,
  ),
  scene(
    'what a running job refuses',
    lines(slow(), ['complete', 'j'], ['finalize', 'j'], ['dismiss', 'j'], slow()),
    concluded,
    dismiss,
  ),
  scene(
    'asked for while it runs',
    lines(slow(), { execute: 'blockdev-create' }),
    concluded,
    dismiss,
  ),
  scene(
    'cancel',
    lines(slow(), ['cancel', 'j'], ['cancel', 'j'], ['pause', 'j'], ['pause', 'j']),
    concluded,
    'query-jobs',
    of('cancel'),
    of('resume'),
    dismiss,
  ),
  scene(
    'pause, then cancel',
    lines(slow(), ['pause', 'j'], ['cancel', 'j'], ['resume', 'j']),
    concluded,
    'query-jobs',
    dismiss,
  ),
  scene(
    'quit',
    create(file({ size: 0 }), 'old'),
    concluded,
    lines(slow(), query, { execute: 'quit' }),
    { do: 'exit' },
    { do: 'listen', on: 'main', hears: 'the end' },
  ),
];

export const jobs: Area = {
  name: 'jobs',
  groups: [
    {
      name: 'arguments',
      cases: [...refused, ...unknown],
    },
    {
      name: 'files',
      files: [
        { name: 'old.img', length: 10_000, fill: [[0, 10_000, 0x33]] },
        { name: 'target.img', length: 10_000, fill: [[0, 10_000, 0x44]] },
        { name: 'link.img', kind: 'symlink', target: 'target.img' },
        { name: 'fifo', kind: 'fifo' },
      ],
      cases: [...files, ...inUse],
    },
    { name: 'lives', cases: lives },
    { name: 'running', cases: running },
    {
      name: 'numbers that do not fit',
      cases: [
        briefly('a negative size', file({ size: -1 })),
        briefly('the largest size', file({ size: 9_223_372_036_854_775_807n })),
        briefly('2^53 to reserve', file({ size: 2n ** 53n, preallocation: 'falloc' })),
        briefly('2^53 - 1', file({ size: 2n ** 53n - 1n })),
        briefly('a negative hint', file({ size: 1, 'extent-size-hint': -1 })),
      ],
    },
  ],
};
