// Output to a file, input from another one.

import { close, open } from 'node:fs';
import type { ChardevFile } from '../../qapi/generated/types.ts';
import { failure } from '../system-error.ts';
import type { ChardevPort, PortContext } from './chardev.ts';
import { DescriptorPort } from './descriptor-port.ts';

export async function openFile(options: ChardevFile, context: PortContext): Promise<ChardevPort> {
  const output = await openPath(options.out, options.append === true ? 'a' : 'w');
  let input: number | undefined;
  try {
    if (options.in !== undefined) input = await openPath(options.in, 'r');
  } catch (error) {
    close(output);
    throw error;
  }
  return new DescriptorPort({ filename: 'file', input, output, closeDescriptors: true }, context);
}

/** In the thread pool, for a FIFO waits until the other side opens it. */
function openPath(path: string, flags: 'a' | 'w' | 'r'): Promise<number> {
  return new Promise((fulfil, reject) => {
    try {
      open(path, flags, 0o666, (error, fd) => {
        if (error) reject(failure(`Could not open '${path}'`, error));
        else fulfil(fd);
      });
    } catch (error) {
      // A path that node refuses to pass on.
      reject(failure(`Could not open '${path}'`, error));
    }
  });
}
