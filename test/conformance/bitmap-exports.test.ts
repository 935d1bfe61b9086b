import { bitmapExports } from './areas/bitmap-exports.ts';
import { conformance } from './suite.ts';

conformance(bitmapExports);
