import { qcow2Damage } from './areas/qcow2-damage.ts';
import { conformance } from './suite.ts';

conformance(qcow2Damage);
