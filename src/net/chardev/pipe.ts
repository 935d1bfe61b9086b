// Named pipes: PATH.in to read from and PATH.out to write to, or PATH for both. All are opened for reading and writing, so that
// the other side may come and go.

import { closeSync, openSync } from 'node:fs';
import type { ChardevHostdev } from '../../qapi/generated/types.ts';
import { failure } from '../system-error.ts';
import type { ChardevPort, PortContext } from './chardev.ts';
import { DescriptorPort } from './descriptor-port.ts';

export function openPipe(options: ChardevHostdev, context: PortContext): ChardevPort {
  const { input, output } = openPair(options.device);
  return new DescriptorPort({ filename: 'pipe', input, output, closeDescriptors: true }, context);
}

function openPair(path: string): { input: number; output: number } {
  const input = openIfPossible(`${path}.in`);
  const output = openIfPossible(`${path}.out`);
  if (input !== undefined && output !== undefined) return { input, output };
  for (const fd of [input, output]) if (fd !== undefined) closeSync(fd);
  try {
    const both = openSync(path, 'r+');
    return { input: both, output: both };
  } catch (error) {
    throw failure(`Could not open '${path}'`, error);
  }
}

function openIfPossible(path: string): number | undefined {
  try {
    return openSync(path, 'r+');
  } catch {
    return undefined;
  }
}
