import { exports } from './areas/exports.ts';
import { conformance } from './suite.ts';

conformance(exports);
