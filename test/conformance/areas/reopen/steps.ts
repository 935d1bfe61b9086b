// What the cases of blockdev-reopen share.

export const file = (more: object = {}): object => ({
  driver: 'file',
  'node-name': 'f',
  filename: '@DIR@/a.img',
  ...more,
});
export const nul = (more: object = {}): object => ({
  driver: 'null-co',
  'node-name': 'n',
  ...more,
});
export const raw = (more: object = {}): object => ({
  driver: 'raw',
  'node-name': 'r',
  file: 'f',
  ...more,
});
export const inline = (more: object = {}): object => ({
  driver: 'file',
  filename: '@DIR@/a.img',
  ...more,
});
