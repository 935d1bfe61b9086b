import { qcow2Create } from './areas/qcow2-create.ts';
import { conformance } from './suite.ts';

conformance(qcow2Create);
