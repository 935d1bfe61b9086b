// The QMP reference manual: Markdown.

import type { Schema } from './types.ts';
import { commandsInWireOrder } from './visitor.ts';

export function emitDocs(schema: Schema): string {
  return commandsInWireOrder(schema)
    .map(({ name }) => `# ${name}\n`)
    .join('\n');
}
