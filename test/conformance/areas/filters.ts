// Filter drivers and what they need: options, permissions, errors, how they are shown, what a client sees through them.

import { type Area, scene } from '../case.ts';
import { graph } from '../node-commands.ts';
import { MIB } from '../sizes.ts';
import { transmission } from '../wire-steps.ts';
import { backedBy, debugNames, verifyNames, withBacking } from './filters/backing-names.ts';
import { blkdebugNodes } from './filters/blkdebug.ts';
import { cbwNodes, corNodes, preallocateNodes } from './filters/copying.ts';
import { changedChildren, quorumNodes, quorumOver } from './filters/quorum.ts';
import { read } from './filters/steps.ts';
import { throttleGroups, throttleNodes } from './filters/throttle.ts';
import { blklogwritesNodes, blkverifyNodes, logs } from './filters/two-nodes.ts';

const files = [
  { name: 'a.img', length: MIB, fill: [[0, 4096, 0x61]] },
  { name: 'b.img', length: MIB, fill: [[4096, 4096, 0x62]] },
] as const;

const server = ['--nbd-server', 'addr.type=unix,addr.path=@DIR@/nbd.sock'];

export const filters: Area = {
  name: 'filters',
  groups: [
    { name: 'throttle-group', files, cases: throttleGroups },
    {
      name: 'throttle',
      files,
      arguments: [
        '--object',
        'throttle-group,id=shared,x-iops-total=1000000',
        '--object',
        'secret,id=secret,data=x',
        ...server,
      ],
      cases: throttleNodes,
    },
    { name: 'copy-on-read', files, arguments: server, cases: corNodes },
    { name: 'preallocate', files, arguments: server, cases: preallocateNodes },
    { name: 'blkdebug', files, arguments: server, cases: blkdebugNodes },
    {
      name: 'blkdebug in the name of a backing file',
      files: [
        ...files,
        { name: 'rules', text: '[set-state]\nevent = "none"\nnew_state = "2"\n' },
        ...backedBy(debugNames),
      ],
      cases: debugNames.map(withBacking),
    },
    { name: 'copy-before-write', files, arguments: server, cases: cbwNodes },
    { name: 'quorum', files, arguments: server, cases: quorumNodes },
    { name: 'changed children', files, arguments: server, cases: changedChildren },
    { name: 'blkverify', files, arguments: server, cases: blkverifyNodes },
    {
      name: 'blkverify in the name of a backing file',
      files: [...files, { name: 'c.qcow2', qcow2: {} }, ...backedBy(verifyNames)],
      cases: verifyNames.map(withBacking),
    },
    {
      name: 'blkverify, nodes that differ',
      stderr: false,
      files,
      arguments: [
        ...server,
        '--blockdev',
        'blkverify,node-name=x,raw.driver=file,raw.filename=@DIR@/a.img,test.driver=file,test.filename=@DIR@/b.img',
        '--export',
        'nbd,id=e,node-name=x,name=ex',
      ],
      cases: [transmission('are read', 'simple', 'ex', read(8192), read(0))],
    },
    {
      name: 'quorum, children that differ',
      files,
      arguments: [
        ...server,
        ...['a', 'b'].flatMap((name) => [
          '--blockdev',
          `file,node-name=${name},filename=@DIR@/${name}.img`,
        ]),
        '--blockdev',
        `null-co,node-name=n,size=${MIB},read-zeroes=on`,
        ...quorumOver('two', 2),
        ...quorumOver('three', 3),
      ],
      cases: [
        scene('are outvoted', ...transmission('', 'simple', 'two', read(0)).steps, graph),
        scene('have no majority', ...transmission('', 'simple', 'three', read(0)).steps, graph),
        scene('agree', ...transmission('', 'simple', 'three', read(8192)).steps, graph),
      ],
    },
    {
      name: 'quorum, children that differ and must not',
      stderr: false,
      files,
      arguments: [
        ...server,
        '--blockdev',
        'quorum,node-name=x,vote-threshold=2,blkverify=on,children.0.driver=file,children.0.filename=@DIR@/a.img,children.1.driver=file,children.1.filename=@DIR@/b.img',
        '--export',
        'nbd,id=e,node-name=x,name=ex',
      ],
      cases: [transmission('are read', 'simple', 'ex', read(8192), read(0))],
    },
    {
      name: 'blklogwrites',
      files: [...files, ...logs],
      arguments: server,
      cases: blklogwritesNodes,
    },
  ],
  commandLines: [
    {
      id: 'throttle from the command line',
      files,
      arguments: [
        '--object',
        'throttle-group,id=g,limits.iops-total=5',
        '--blockdev',
        'driver=throttle,node-name=x,throttle-group=g,file.driver=file,file.filename=a.img',
        '--blockdev',
        'driver=throttle,node-name=y,throttle-group=h,file=x',
      ],
    },
    {
      id: 'a throttle group that makes no sense',
      arguments: ['--object', 'throttle-group,id=g,x-iops-total=5,x-iops-read=5'],
    },
  ],
};
