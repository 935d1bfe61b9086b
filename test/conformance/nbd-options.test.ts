import { nbdOptions } from './areas/nbd-options.ts';
import { conformance } from './suite.ts';

conformance(nbdOptions);
