import { objects } from './areas/objects.ts';
import { conformance } from './suite.ts';

conformance(objects);
