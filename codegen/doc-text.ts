// Documentation comments as running text, for TSDoc comments.

import type { DocComment } from './doc-comment.ts';

/** The body and the tagged sections, without what belongs to single members. */
export function docText({ body, sections }: DocComment): string {
  const parts = [body];
  for (const { tag, text } of sections) {
    if (tag === undefined) parts.push(text);
    else if (tag !== 'TODO') parts.push(`${tag}: ${text}`);
  }
  return plain(parts.filter((part) => part !== '').join('\n\n'));
}

/** `@name` marks a reference in the schema; TSDoc would take it for a tag. */
export function plain(text: string): string {
  return text.replace(/(^|[\s(])@([A-Za-z_][\w-]*)/g, '$1`$2`').replace(/\*\//g, '*\\/');
}
