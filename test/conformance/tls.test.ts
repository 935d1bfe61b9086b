import { tls } from './areas/tls.ts';
import { conformance } from './suite.ts';

conformance(tls);
