// A QMP session: greeting, negotiation, out-of-band, several monitors, events, pretty printing, back-pressure.

import { type Area, ask, bytes, type Group, type Heard, raw, type Step, scene } from '../case.ts';

const monitor = (as: string, path = 'second.sock'): Step => ({ do: 'monitor', path, as });
const hangUp = (on: string): Step => ({ do: 'hang up', on });
const listen = (on: string, hears: Heard): Step => ({ do: 'listen', on, hears });
const stat = (file: string): Step => ({ do: 'stat', file });
const second = [
  '--chardev',
  'socket,id=second,path=@DIR@/second.sock,server=on,wait=off',
  '--monitor',
  'second',
];
const withExports = [
  '--blockdev',
  'null-co,node-name=n,size=1048576',
  '--nbd-server',
  'addr.type=unix,addr.path=@DIR@/nbd.sock',
];

const capabilities = (args: unknown): readonly [string, unknown] => ['qmp_capabilities', args];

export const session: Area = {
  name: 'session',
  groups: [
    {
      name: 'before negotiation',
      monitor: 'socket',
      negotiated: false,
      cases: [
        scene('greeting', raw('')),
        scene('command', ['query-version', undefined]),
        scene('unknown command', ['nope', undefined]),
        scene('quit', ['quit', undefined]),
        scene('bad input', raw('}\n'), raw('5\n'), raw('{"id":1}\n')),
        scene('capabilities twice', 'qmp_capabilities', 'qmp_capabilities'),
        scene('capabilities with id', raw('{"execute":"qmp_capabilities","id":[1]}\n')),
        ...[
          { enable: [] },
          { enable: ['oob'] },
          { enable: ['oob', 'oob'] },
          { enable: ['zz'] },
          { enable: 'oob' },
          { enable: [5] },
          { enable: [['oob']] },
          { enable: null },
          { enable: {} },
          { bogus: 1 },
          { enable: ['oob'], bogus: 1 },
        ].map((args) =>
          scene(
            `capabilities ${JSON.stringify(args)}`,
            capabilities(args),
            capabilities({}),
            raw('{"exec-oob":"query-version","id":1}\n'),
          ),
        ),
        scene(
          'a failed negotiation is repeated',
          capabilities({ enable: ['zz'] }),
          'query-version',
          ['qmp_capabilities', {}],
        ),
      ],
    },
    {
      name: 'out of band',
      monitor: 'socket',
      negotiated: false,
      cases: [
        scene(
          'no command supports it',
          capabilities({ enable: ['oob'] }),
          raw('{"exec-oob":"query-version","id":1}\n'),
          raw('{"exec-oob":"nope","id":2}\n'),
          raw('{"exec-oob":"qmp_capabilities","id":3}\n'),
          raw('{"exec-oob":"query-version"}\n'),
          raw('{"exec-oob":5,"id":4}\n'),
          raw('{"exec-oob":"query-version","execute":"query-version","id":5}\n'),
          raw('{"execute":"query-version","exec-oob":"query-version","id":6}\n'),
          raw('{"exec-oob":"query-version","id":7,"arguments":{"x":1}}\n'),
          raw('{"exec-oob":"query-version","id":8,"control":{}}\n'),
          raw('{"execute":"query-version","id":9}\n'),
        ),
        scene(
          'bad input with it enabled',
          capabilities({ enable: ['oob'] }),
          raw('}\n'),
          raw('[]\n'),
          raw('{"execute":"query-version"}{"execute":"nope"}}\n'),
        ),
      ],
    },
    {
      name: 'pipelined',
      monitor: 'socket',
      cases: [
        bytes(
          Array.from({ length: 40 }, (_, id) => `{"execute":"query-version","id":${id}}`).join(''),
          '40 commands in one write',
        ),
        bytes(
          Array.from({ length: 20 }, (_, id) =>
            id % 2 === 0 ? `{"execute":"nope","id":${id}}\n` : `{"id":${id}}\n`,
          ).join(''),
          '20 errors of two kinds in one write',
        ),
        bytes(
          '{"execute":"query-version","id":1}}{"execute":"query-version","id":2}\n',
          'an error between commands',
        ),
      ],
    },
    {
      name: 'two monitors',
      arguments: [...second, ...withExports],
      cases: [
        scene('greeting of the second', monitor('b'), listen('b', 1)),
        scene(
          'events reach negotiated monitors only',
          ['block-export-add', { type: 'nbd', id: 'e', 'node-name': 'n' }],
          ['block-export-del', { id: 'e' }],
          listen('b', 'nothing'),
          ['qmp_capabilities', {}, 'b'],
          ['block-export-add', { type: 'nbd', id: 'e', 'node-name': 'n' }],
          ['block-export-del', { id: 'e' }],
          listen('b', 1),
        ),
        scene(
          'the other one issues',
          ['block-export-add', { type: 'nbd', id: 'e', 'node-name': 'n' }],
          ['block-export-del', { id: 'e' }, 'b'],
        ),
        scene(
          'a chardev has one client at a time',
          monitor('c'),
          listen('c', 'nothing'),
          hangUp('b'),
          listen('c', 1),
        ),
        scene(
          'the next client starts over',
          ['query-version', undefined, 'c'],
          ['qmp_capabilities', {}, 'c'],
          ['query-version', undefined, 'c'],
        ),
        scene('query-chardev', 'query-chardev'),
        scene('gone client', hangUp('c'), 'query-version'),
      ],
    },
    {
      name: 'pretty',
      monitor: 'pretty',
      negotiated: false,
      arguments: [...second.slice(0, 3), 'second,pretty=off', ...withExports],
      cases: [
        scene('greeting', raw('')),
        ask('query-version'),
        ask('qmp_capabilities'),
        ask('query-block-exports'),
        scene('version when negotiated', 'query-version'),
        ask('nope'),
        bytes('}\n'),
        bytes('{"execute":"nope","id":{"a":[],"b":{},"c":[1,[2,{}]],"d":"\\u00e9\\n"}}\n'),
        scene(
          'event',
          ['block-export-add', { type: 'nbd', id: 'e', 'node-name': 'n' }],
          'query-block-exports',
          ['block-export-del', { id: 'e' }],
        ),
      ],
    },
    {
      name: 'quit',
      arguments: withExports,
      cases: [
        scene(
          'events of the exports come first',
          ['block-export-add', { type: 'nbd', id: 'e1', 'node-name': 'n', name: 'a' }],
          ['block-export-add', { type: 'nbd', id: 'e2', 'node-name': 'n', name: 'b' }],
          ['block-export-add', { type: 'nbd', id: 'e3', 'node-name': 'n', name: 'c' }],
          'quit',
          listen('main', 'the end'),
          { do: 'exit' },
          { do: 'stat', file: 'nbd.sock' },
        ),
      ],
    },
    ...(['SIGTERM', 'SIGINT', 'SIGHUP'] as const).map(
      (signal): Group => ({
        name: `ended by ${signal}`,
        arguments: [...withExports, ...second, '--pidfile', '@DIR@/pid'],
        cases: [
          scene(
            'events, then the end; the NBD socket stays',
            ['block-export-add', { type: 'nbd', id: 'e1', 'node-name': 'n', name: 'a' }],
            ['block-export-add', { type: 'nbd', id: 'e2', 'node-name': 'n', name: 'b' }],
            stat('pid'),
            { do: 'signal', signal },
            listen('main', 'the end'),
            { do: 'exit' },
            stat('pid'),
            stat('nbd.sock'),
            stat('second.sock'),
          ),
        ],
      }),
    ),
    {
      name: 'signals that change nothing',
      cases: [
        scene('SIGUSR1', { do: 'signal', signal: 'SIGUSR1' }, 'query-version'),
        scene('SIGPIPE', { do: 'signal', signal: 'SIGPIPE' }, 'query-version'),
      ],
    },
    {
      name: 'killed by SIGQUIT',
      cases: [scene('at once', { do: 'signal', signal: 'SIGQUIT' }, { do: 'exit' })],
    },
    {
      name: 'quit with arguments',
      cases: [
        ask('quit', { x: 1 }),
        ask('query-version', { x: 1 }),
        ask('query-commands', { x: {} }),
      ],
    },
    {
      name: 'quit on a socket monitor',
      arguments: second,
      cases: [
        scene(
          'the reply reaches the client',
          monitor('b'),
          ['qmp_capabilities', {}, 'b'],
          ['quit', undefined, 'b'],
          listen('b', 'the end'),
          { do: 'exit' },
          { do: 'stat', file: 'second.sock' },
        ),
      ],
    },
  ],
};
