import { reopen } from './areas/reopen.ts';
import { conformance } from './suite.ts';

conformance(reopen);
