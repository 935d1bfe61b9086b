import { parser } from './areas/parser.ts';
import { conformance } from './suite.ts';

conformance(parser);
