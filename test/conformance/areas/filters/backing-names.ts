// Filters as the names of backing files.

import { type Case, type FileSetup, scene } from '../../case.ts';
import { del, graph, node } from '../../node-commands.ts';
import { inline } from './steps.ts';

/** Names of backing files. */
export const debugNames = [
  'blkdebug::a.img',
  'blkdebug:rules:a.img',
  'blkdebug:none:a.img',
  'blkdebug:a.img',
  'blkdebug:',
  'blkdebug::none.img',
  'blkdebug:rules:blkdebug::a.img',
  'blkdebug::nbd:unix:none.sock',
];
export const verifyNames = [
  'blkverify:a.img:b.img',
  'blkverify:a.img:c.qcow2',
  'blkverify:a.img:file:b.img',
  'blkverify:a.img:blkdebug::c.qcow2',
  'blkverify:a.img',
  'blkverify:',
  'blkverify::b.img',
  'blkverify:none:b.img',
  'blkverify:a.img:none.img',
  'blkverify:a.img:nope:b.img',
  'blkdebug::blkverify:a.img:b.img',
];

/** Images with backing files of these names. */
export const backedBy = (names: readonly string[]): FileSetup[] =>
  names.map((name, index) => ({
    name: `${index}.qcow2`,
    qcow2: { backing: { file: name, format: 'raw' } },
  }));

/** One of them opened. */
export const withBacking = (name: string, index: number): Case =>
  scene(
    name,
    node({
      driver: 'qcow2',
      'node-name': 'x',
      file: inline({ filename: `@DIR@/${index}.qcow2` }),
    }),
    ['query-named-block-nodes', { flat: true }],
    graph,
    del('x'),
  );
