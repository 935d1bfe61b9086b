// What becomes of a request, as a value that tests can compare.

import { IoError } from '../../../src/base/errors.ts';

/** `ok` or the errno; any other error is the test's. */
export async function outcome(request: () => unknown): Promise<number | 'ok'> {
  try {
    await request();
    return 'ok';
  } catch (error) {
    if (error instanceof IoError) return error.errno;
    throw error;
  }
}
