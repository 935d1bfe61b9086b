import { jobs } from './areas/jobs.ts';
import { conformance } from './suite.ts';

conformance(jobs);
