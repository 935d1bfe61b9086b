// Running text of the schema as Markdown.

/**
 * Turns `@member` into code and every name that `linkTo` knows into a link. What stands between backquotes stays as it is,
 * and so does Markdown itself: lists and emphasis may be used in the schema.
 */
export function manualText(text: string, linkTo: (name: string) => string | undefined): string {
  return text
    .split(/(`[^`]*`)/)
    .map((piece) => (piece.startsWith('`') ? piece : linkNames(piece, linkTo)))
    .join('');
}

function linkNames(text: string, linkTo: (name: string) => string | undefined): string {
  return text.replace(/@?[A-Za-z][A-Za-z0-9_-]*/g, (word, at: number) => {
    // An option of the command line, or part of a longer word.
    if (at > 0 && /[\w-]/.test(text.charAt(at - 1))) return word;
    const name = word.replace(/^@/, '');
    // A plain English word may be a command's name as well: 'quit' is one.
    const distinct = /[A-Z_-]/.test(name.slice(1)) || word.startsWith('@');
    const link = distinct ? linkTo(name) : undefined;
    if (link !== undefined) return link;
    return word.startsWith('@') ? `\`${name}\`` : word;
  });
}
