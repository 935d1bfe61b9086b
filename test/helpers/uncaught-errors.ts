// Errors that nobody caught, for tests of code that leaves some to the program around.

import { onTestFinished } from 'vitest';

/** What comes from now until the end of the test; nobody else hears of it. */
export function uncaughtErrors(
  event: 'uncaughtException' | 'unhandledRejection' = 'uncaughtException',
): unknown[] {
  const errors: unknown[] = [];
  const others = process.rawListeners(event) as ((error: unknown) => void)[];
  process.removeAllListeners(event);
  process.on(event, (error: unknown) => errors.push(error));
  onTestFinished(() => {
    process.removeAllListeners(event);
    for (const listener of others) process.on(event, listener);
  });
  return errors;
}
