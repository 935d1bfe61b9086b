import { snapshots } from './areas/snapshots.ts';
import { conformance } from './suite.ts';

conformance(snapshots);
