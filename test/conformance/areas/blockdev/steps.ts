// What the cases of block nodes share.

import { ask, type Case, type CommandPair, scene } from '../../case.ts';
import { del } from '../../node-commands.ts';

/** An error is expected; a node that came to be all the same is removed. */
export const refuse = (options: object): Case => {
  const asked = ask('blockdev-add', options);
  return { id: asked.id, steps: [...asked.steps, ...scene('', del('x')).steps] };
};
export const nbdExport = (more: object): CommandPair => [
  'block-export-add',
  { type: 'nbd', id: 'e', writable: true, ...more },
];
export const removeExport: CommandPair = ['block-export-del', { id: 'e' }];

export const file = (more: object = {}): object => ({
  driver: 'file',
  'node-name': 'x',
  filename: '@DIR@/a.img',
  ...more,
});
export const nul = (more: object = {}): object => ({
  driver: 'null-co',
  'node-name': 'x',
  ...more,
});
export const raw = (more: object = {}): object => ({
  driver: 'raw',
  'node-name': 'x',
  file: { driver: 'file', filename: '@DIR@/a.img' },
  ...more,
});
