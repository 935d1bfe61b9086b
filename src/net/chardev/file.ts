// Output to a file, input from another one.

import { close, closeSync, constants, open, openSync, statSync } from 'node:fs';
import type { ChardevFile } from '../../qapi/generated/types.ts';
import { failure } from '../system-error.ts';
import type { ChardevPort, PortContext } from './chardev.ts';
import { DescriptorPort } from './descriptor-port.ts';

export async function openFile(options: ChardevFile, context: PortContext): Promise<ChardevPort> {
  const { signal } = context;
  const output = await openPath(options.out, options.append === true ? 'a' : 'w', signal);
  let input: number | undefined;
  try {
    if (options.in !== undefined) input = await openPath(options.in, 'r', signal);
  } catch (error) {
    close(output);
    throw error;
  }
  return new DescriptorPort({ filename: 'file', input, output, closeDescriptors: true }, context);
}

/** In the thread pool: a FIFO's other side may take its time. When the chardev is given up, we are that side. */
function openPath(path: string, flags: 'a' | 'w' | 'r', signal: AbortSignal): Promise<number> {
  return new Promise((fulfil, reject) => {
    signal.throwIfAborted();
    let otherSide: number | undefined;
    const giveUp = (): void => {
      otherSide = openOtherSide(path);
    };
    try {
      open(path, flags, 0o666, (error, fd) => {
        signal.removeEventListener('abort', giveUp);
        if (otherSide !== undefined) closeSync(otherSide);
        if (error) reject(failure(`Could not open '${path}'`, error));
        else fulfil(fd);
      });
      signal.addEventListener('abort', giveUp);
    } catch (error) {
      // A path that node refuses to pass on.
      reject(failure(`Could not open '${path}'`, error));
    }
  });
}

/** Both sides of a FIFO, at once: whoever waits in opening one of them comes out. Undefined for what is none. */
function openOtherSide(path: string): number | undefined {
  try {
    return statSync(path).isFIFO()
      ? openSync(path, constants.O_RDWR | constants.O_NONBLOCK)
      : undefined;
  } catch {
    return undefined;
  }
}
