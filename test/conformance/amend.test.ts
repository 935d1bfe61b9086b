import { amendments } from './areas/amend.ts';
import { conformance } from './suite.ts';

conformance(amendments);
