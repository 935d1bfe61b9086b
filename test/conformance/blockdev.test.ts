import { blockdev } from './areas/blockdev.ts';
import { conformance } from './suite.ts';

conformance(blockdev);
