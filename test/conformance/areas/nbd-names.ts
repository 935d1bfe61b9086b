// Names of NBD disks in the headers of qcow2 images: what is connected to, what it is called then, and what is no such name.

import { type Area, type CommandPair, scene } from '../case.ts';
import { MIB } from '../sizes.ts';

const names: readonly string[] = [
  'nbd+unix:///rw?socket=peer.sock',
  'nbd+unix:///r%77?socket=peer%2esock',
  'nbd+unix:/rw?socket=peer.sock#x',
  'nbd+unix:///?socket=peer.sock',
  'nbd+unix://?socket=peer.sock',
  'nbd+unix:///none?socket=peer.sock',
  'nbd+unix:///rw?socket=none.sock',
  'nbd+unix:///rw?socket=',
  'nbd+unix:///rw?path=peer.sock',
  'nbd+unix:///rw?socket=peer.sock&a=b',
  'nbd+unix:///rw?socket=peer.sock;&',
  'nbd+unix://h/rw?socket=peer.sock',
  'nbd+unix://:5/rw?socket=peer.sock',
  'nbd+unix:///r w?socket=peer.sock',
  'nbd+unix:///rw',
  'nbd+unix:rw',
  'nbd:unix:peer.sock',
  'nbd:unix:peer.sock:exportname=rw',
  'nbd:unix:peer.sock:exportname=none',
  'nbd:unix:peer.sock:exportname=',
  'nbd:unix:none.sock',
  'nbd:unix:',
  'nbd:',
  'nbd:h',
  'nbd::',
  'nbd:[::1]1',
  'nbd:127.0.0.1:1',
  'nbd:127.0.0.1:1:exportname=a/b',
  'nbd:[::1]:1',
  'nbd:127.0.0.1:x',
  'nbd://127.0.0.1:1',
  'nbd://127.0.0.1:1/a/b',
  'nbd+tcp://127.0.0.1:1/',
  'nbd+tcp://u@[::1]:1/x',
  'nbd+tcp:127.0.0.1:1',
  'nbd://127.0.0.1:65536/x',
  'nbd://127.0.0.1:/x',
  'nbd://127.0.0.1:1/x?a=b',
  'nbd://127.0.0.1:1/%4',
  'nbd:///x',
  'nbd:unix:a://b',
  'nbds://127.0.0.1:1/x',
  'NBD://127.0.0.1:1/x',
];

const add = (file: object, more: object = {}): CommandPair => [
  'blockdev-add',
  { driver: 'qcow2', 'node-name': 'q', file, ...more },
];
const query: CommandPair = ['query-named-block-nodes', { flat: true }];
const del: CommandPair = ['blockdev-del', { 'node-name': 'q' }];
const fileOf = (index: number): object => ({ driver: 'file', filename: `@DIR@/${index}.qcow2` });
const overlay = { driver: 'nbd', server: { type: 'unix', path: '@DIR@/peer.sock' }, export: 'q' };

export const nbdNames: Area = {
  name: 'nbd-names',
  groups: [
    {
      name: 'backing',
      files: [
        { name: 'disk.img', length: MIB },
        { name: 'relative.qcow2', qcow2: { backing: { file: 'disk.img', format: 'raw' } } },
        ...names.map((file, index) => ({
          name: `${index}.qcow2`,
          qcow2: { backing: { file, format: 'raw' } },
        })),
      ],
      peer: [
        '--blockdev',
        'file,node-name=f,filename=@DIR@/disk.img',
        '--blockdev',
        'file,node-name=q,filename=@DIR@/relative.qcow2',
        '--nbd-server',
        'addr.type=unix,addr.path=@DIR@/peer.sock,max-connections=0',
        '--export',
        'nbd,id=e1,node-name=f,name=rw,writable=on',
        '--export',
        'nbd,id=e2,node-name=f,name=',
        '--export',
        'nbd,id=e3,node-name=q,name=q',
      ],
      cases: [
        ...names.map((name, index) => scene(name, add(fileOf(index)), query, del)),
        scene('a name relative to an export', add(overlay, { 'read-only': true })),
        scene('the format alone', add(fileOf(0), { backing: { driver: 'nbd' } })),
      ],
    },
  ],
};
