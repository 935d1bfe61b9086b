import { nbdCommands } from './areas/nbd-commands.ts';
import { conformance } from './suite.ts';

conformance(nbdCommands);
