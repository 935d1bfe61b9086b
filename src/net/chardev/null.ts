// The chardev that takes everything and never says anything.

import type { ChardevPort, PortContext } from './chardev.ts';

export function openNull(_options: object, context: PortContext): ChardevPort {
  context.events.opened();
  return {
    filename: () => 'null',
    write: () => true,
    acceptInput() {},
    close() {},
  };
}
