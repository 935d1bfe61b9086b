import { nbdClient } from './areas/nbd-client.ts';
import { conformance } from './suite.ts';

conformance(nbdClient);
