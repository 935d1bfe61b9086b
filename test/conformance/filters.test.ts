import { filters } from './areas/filters.ts';
import { conformance } from './suite.ts';

conformance(filters);
