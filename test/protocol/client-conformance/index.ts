// All that the specification asks of a server, and that a client can see broken, in its order.

import { commandSections } from './command-rules.ts';
import { handshakeSections } from './handshake-rules.ts';
import { optionSections } from './option-rules.ts';
import { replySections } from './reply-rules.ts';
import type { Section } from './rule.ts';

export const sections: readonly Section[] = [
  ...handshakeSections,
  ...optionSections,
  ...replySections,
  ...commandSections,
];
