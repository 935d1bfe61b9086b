// Persistent dirty bitmaps in images, as the reference sees them.

import { spawnSync } from 'node:child_process';
import type {
  BlockDeviceInfo,
  BlockDirtyInfo,
  Qcow2BitmapInfo,
} from '../../src/qapi/generated/types.ts';
import { qemuImg } from './qcow2-images.ts';

/** `name flags granularity` of each bitmap that `qemu-img info` lists. */
export function bitmapsInImage(path: string): string[] {
  const info = JSON.parse(qemuImg('info', '-U', '--output=json', path)) as {
    'format-specific': { data: { bitmaps?: Qcow2BitmapInfo[] } };
  };
  return (info['format-specific'].data.bitmaps ?? []).map(
    ({ name, flags, granularity }) => `${name} ${flags.join('+') || '-'} ${granularity}`,
  );
}

type Command = readonly [name: string, args?: object];

/** Puts commands to the reference with the image opened as `n`; answers what it returned, and its stderr. */
export function askReference(
  path: string,
  commands: readonly Command[],
  { readOnly = false }: { readonly readOnly?: boolean } = {},
): { readonly returned: readonly unknown[]; readonly stderr: string } {
  const options = {
    driver: 'qcow2',
    'node-name': 'n',
    'read-only': readOnly,
    file: { driver: 'file', filename: path },
  };
  const all: readonly Command[] = [
    ['qmp_capabilities'],
    ['blockdev-add', options],
    ...commands,
    ['quit'],
  ];
  const { stdout, stderr } = spawnSync(
    'qemu-storage-daemon',
    ['--chardev', 'stdio,id=c', '--monitor', 'c'],
    {
      input: all
        .map(([name, args]) => `${JSON.stringify({ execute: name, arguments: args })}\n`)
        .join(''),
      encoding: 'utf8',
    },
  );
  const answers = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { return?: unknown; error?: { desc: string } })
    .filter((answer) => answer.return !== undefined || answer.error !== undefined);
  const [, added] = answers;
  if (added?.error !== undefined) throw new Error(`${path}: ${added.error.desc}`);
  return { returned: answers.slice(2, -1).map((one) => one.error?.desc ?? one.return), stderr };
}

/**
 * `name recording count sha256` of each bitmap that the reference has once it opened the image, read-only. `names` saves asking for
 * them first: of those that there may be.
 */
export function bitmapsByReference(
  path: string,
  names: readonly string[] = namesByReference(path),
): string[] {
  const commands = names.map(
    (name) => ['x-debug-block-dirty-bitmap-sha256', { node: 'n', name }] as const,
  );
  const { returned } = askReference(path, [QUERY, ...commands], { readOnly: true });
  return bitmapInfos(returned).map((info) => {
    const { sha256 } = returned[1 + names.indexOf(String(info.name))] as { sha256: string };
    return bitmapLine(info, sha256);
  });
}

const QUERY: Command = ['query-named-block-nodes', { flat: true }];

function namesByReference(path: string): string[] {
  const { returned } = askReference(path, [QUERY], { readOnly: true });
  return bitmapInfos(returned).map(({ name }) => String(name));
}

function bitmapInfos([nodes]: readonly unknown[]): readonly BlockDirtyInfo[] {
  const found = (nodes as BlockDeviceInfo[]).find((one) => one['node-name'] === 'n');
  return found?.['dirty-bitmaps'] ?? [];
}

export function bitmapLine(info: BlockDirtyInfo, sha256: string): string {
  const { name, recording, count, inconsistent } = info;
  const state = inconsistent === true ? 'inconsistent' : recording ? 'recording' : 'disabled';
  return `${name} ${state} ${count} ${sha256}`;
}
