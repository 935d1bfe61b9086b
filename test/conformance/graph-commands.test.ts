import { graphCommands } from './areas/graph-commands.ts';
import { conformance } from './suite.ts';

conformance(graphCommands);
