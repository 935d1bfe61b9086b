import { session } from './areas/session.ts';
import { conformance } from './suite.ts';

conformance(session);
