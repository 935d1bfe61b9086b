// A guest that goes with its test.

import { onTestFinished } from 'vitest';
import { Guest, type GuestOptions } from './guest.ts';

/** Resolves once it takes commands. */
export async function bootGuest(options: GuestOptions): Promise<Guest> {
  const guest = Guest.start(options);
  onTestFinished(() => guest.kill());
  await guest.ready();
  return guest;
}
