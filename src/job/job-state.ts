// The life of a job as data: which status may follow which, and what may be asked of a job in which status.

import type { JobStatus, JobVerb } from '../qapi/generated/types.ts';

/** What may come after a status. */
export const transitions = {
  undefined: ['created'],
  created: ['running', 'aborting', 'null'],
  running: ['paused', 'ready', 'waiting', 'aborting'],
  paused: ['running'],
  ready: ['standby', 'waiting', 'aborting'],
  standby: ['ready'],
  waiting: ['pending', 'aborting'],
  pending: ['aborting', 'concluded'],
  aborting: ['aborting', 'concluded'],
  concluded: ['null'],
  null: [],
} as const satisfies Record<JobStatus, readonly JobStatus[]>;

const beforeTheEnd = ['created', 'running', 'paused', 'ready', 'standby'] as const;

/** In which status a job takes a verb. */
export const verbs = {
  cancel: [...beforeTheEnd, 'waiting', 'pending'],
  pause: beforeTheEnd,
  resume: beforeTheEnd,
  'set-speed': beforeTheEnd,
  complete: ['ready', 'standby'],
  finalize: ['pending'],
  dismiss: ['concluded'],
} as const satisfies Record<JobVerb, readonly JobStatus[]>;

export function mayFollow(status: JobStatus, next: JobStatus): boolean {
  return (transitions[status] as readonly JobStatus[]).includes(next);
}

export function mayBeAsked(status: JobStatus, verb: JobVerb): boolean {
  return (verbs[verb] as readonly JobStatus[]).includes(status);
}
