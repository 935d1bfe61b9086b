import { fuseExports } from './areas/fuse.ts';
import { conformance } from './suite.ts';

conformance(fuseExports);
