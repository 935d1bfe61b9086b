// JSON Schema -> TypeScript types, by json-schema-to-typescript.

import { compile } from 'json-schema-to-typescript';
import type { JsonSchemaDocument } from './emit-json-schema.ts';
import { GENERATED_NOTICE } from './visitor.ts';

type CompilerInput = Parameters<typeof compile>[0];

/** Every definition under its own name. */
export async function emitTypes(document: JsonSchemaDocument): Promise<string> {
  const text = await compile(structuredClone(document) as unknown as CompilerInput, 'QapiSchema', {
    bannerComment: GENERATED_NOTICE,
    additionalProperties: false,
    unreachableDefinitions: true,
    unknownAny: true,
    strictIndexSignatures: true,
    // Its formatter takes most of its time, and nobody edits the output.
    format: false,
  });
  return withoutReferenceNotes(text);
}

/** Removes the compiler's "This interface was referenced by" notes, and comments that held nothing else. */
function withoutReferenceNotes(text: string): string {
  return text.replace(/\/\*\*\n(?: \*.*\n)*? \*\/\n/g, (comment) => {
    const lines = comment.split('\n').slice(1, -2);
    const note = lines.findIndex((line) => line.startsWith(' * This interface was referenced by'));
    const kept = note < 0 ? lines : lines.slice(0, note);
    while (kept.at(-1)?.trim() === '*') kept.pop();
    return kept.length === 0 ? '' : `/**\n${kept.join('\n')}\n */\n`;
  });
}
