import { vhostUser } from './areas/vhost-user.ts';
import { conformance } from './suite.ts';

conformance(vhostUser);
