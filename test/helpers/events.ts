// Events in tests that are about jobs and exports: most have an id.

import type { EventName, Events } from '../../src/qapi/generated/events.ts';

/** The id that an event is about; empty for events about other things. */
export function idOf(payload: Events[EventName]): string {
  return 'id' in payload ? String(payload.id) : '';
}
