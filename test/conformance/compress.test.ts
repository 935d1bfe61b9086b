import { compress } from './areas/compress.ts';
import { conformance } from './suite.ts';

conformance(compress);
