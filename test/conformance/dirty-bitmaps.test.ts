import { dirtyBitmaps } from './areas/dirty-bitmaps.ts';
import { conformance } from './suite.ts';

conformance(dirtyBitmaps);
