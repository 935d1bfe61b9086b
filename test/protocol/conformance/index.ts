// All that the specification asks of a server, in its order.

import { commandSections } from './command-rules.ts';
import { handshakeSections } from './handshake-rules.ts';
import type { Section } from './rule.ts';
import { tlsSections } from './tls-rules.ts';
import { transmissionSections } from './transmission-rules.ts';

export const sections: readonly Section[] = [
  ...handshakeSections,
  ...tlsSections,
  ...transmissionSections,
  ...commandSections,
];
