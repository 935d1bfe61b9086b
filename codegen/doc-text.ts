// Documentation comments as TSDoc.

import type { DocComment, TaggedSection } from './doc-comment.ts';
import { unreachable } from './errors.ts';

/** The body and the tagged sections, without what belongs to single members; `otherwise` when there is nothing. */
export function docText(doc: DocComment | undefined, otherwise: string): string {
  const parts = doc === undefined ? [] : [plain(doc.body), ...doc.sections.map(sectionText)];
  return parts.filter((part) => part !== '').join('\n\n') || otherwise;
}

function sectionText({ tag, text }: TaggedSection): string {
  switch (tag) {
    case undefined:
      return plain(text);
    case 'Returns':
      return `@returns ${plain(text)}`;
    case 'Since':
      return `Since QEMU ${text}.`;
    case 'Note':
    case 'Notes':
      return `@remarks ${plain(text)}`;
    case 'Example':
    case 'Examples':
      return `@example\n\`\`\`text\n${text}\n\`\`\``;
    case 'TODO':
      return '';
    default:
      return unreachable(tag);
  }
}

/** `@name` marks a reference in the schema; TSDoc would take it for a tag. */
export function plain(text: string): string {
  return text.replace(/(^|[\s(])@([A-Za-z_][\w-]*)/g, '$1`$2`').replace(/\*\//g, '*\\/');
}

/** A TSDoc comment, each line indented by `indent`. */
export function tsDoc(text: string, indent: string): string {
  const lines = text.split('\n').map((line) => `${indent} * ${line}`.trimEnd());
  return `${indent}/**\n${lines.join('\n')}\n${indent} */`;
}
