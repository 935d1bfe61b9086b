import { commandLine } from './areas/command-line.ts';
import { conformance } from './suite.ts';

conformance(commandLine);
