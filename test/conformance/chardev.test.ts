import { chardev } from './areas/chardev.ts';
import { conformance } from './suite.ts';

conformance(chardev);
