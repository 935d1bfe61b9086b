import { jsonNames } from './areas/json-names.ts';
import { conformance } from './suite.ts';

conformance(jsonNames);
