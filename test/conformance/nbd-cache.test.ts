import { nbdCache } from './areas/nbd-cache.ts';
import { conformance } from './suite.ts';

conformance(nbdCache);
