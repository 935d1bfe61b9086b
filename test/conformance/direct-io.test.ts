import { directIo } from './areas/direct-io.ts';
import { conformance } from './suite.ts';

conformance(directIo);
