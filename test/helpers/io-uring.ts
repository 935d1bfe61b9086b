// Whether the kernel has rings for this process: old ones do not, and containers are often refused them.

import { IoError } from '../../src/base/errors.ts';
import { IoUring } from '../../src/sys/io-uring.ts';
import { Poller } from '../../src/sys/poller.ts';

/** Why tests of the rings are left out here; undefined where there are some. */
export const noRings: string | undefined = await reason();

export const hasRings = noRings === undefined;

async function reason(): Promise<string | undefined> {
  const poller = new Poller();
  try {
    await new IoUring(poller).close();
    return undefined;
  } catch (error) {
    if (error instanceof IoError) return `the kernel refuses rings here: ${error.reason}`;
    throw error;
  } finally {
    poller.close();
  }
}
