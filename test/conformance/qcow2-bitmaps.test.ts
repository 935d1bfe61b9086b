import { qcow2Bitmaps } from './areas/qcow2-bitmaps.ts';
import { conformance } from './suite.ts';

conformance(qcow2Bitmaps);
