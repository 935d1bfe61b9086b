// All that the specification asks of a server, in its order.

import { commandSections } from './command-rules.ts';
import { handshakeSections } from './handshake-rules.ts';
import type { Section } from './rule.ts';
import { transmissionSections } from './transmission-rules.ts';

export const sections: readonly Section[] = [
  ...handshakeSections,
  ...transmissionSections,
  ...commandSections,
];
