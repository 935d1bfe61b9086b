// job.json: asking jobs, and asking about them.

import type { CommandHandlers } from '../../qapi/generated/commands.ts';
import type { DaemonServices } from '../daemon-services.ts';

export const jobHandlers = {
  'query-jobs': (_, { engine }) => engine.jobs.query(),
  'job-pause': ({ id }, { engine }) => engine.jobs.find(id).pause(),
  'job-resume': ({ id }, { engine }) => engine.jobs.find(id).resume(),
  'job-cancel': ({ id }, { engine }) => engine.jobs.find(id).cancel(),
  'job-complete': ({ id }, { engine }) => engine.jobs.find(id).complete(),
  'job-dismiss': ({ id }, { engine }) => engine.jobs.find(id).dismiss(),
  'job-finalize': ({ id }, { engine }) => engine.jobs.find(id).finalize(),
} satisfies Partial<CommandHandlers<DaemonServices>>;
