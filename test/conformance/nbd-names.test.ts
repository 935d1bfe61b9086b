import { nbdNames } from './areas/nbd-names.ts';
import { conformance } from './suite.ts';

conformance(nbdNames);
