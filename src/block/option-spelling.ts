// How options of a `json:` name were spelled: numbers and truth values may be text there (`"64k"`, `"on"`), and are shown as
// they were given.

const spelling: unique symbol = Symbol('spelling');

type Spelled = object & { readonly [spelling]?: Map<string, string> };

/** To be called with the text of a member that is none. */
export function noteSpelling(options: object, name: string, text: string): void {
  const noted = (options as Spelled)[spelling];
  if (noted !== undefined) noted.set(name, text);
  else Object.defineProperty(options, spelling, { value: new Map([[name, text]]) });
}

/** Notes the same of what `later` has as `before` has it. */
export function keepSpelling(before: object, later: object): void {
  for (const [name, text] of (before as Spelled)[spelling] ?? []) {
    const value = (before as Record<string, unknown>)[name];
    if ((later as Record<string, unknown>)[name] === value) noteSpelling(later, name, text);
  }
}

/** A member as it was given. */
export function asSpelled(options: object, name: string): unknown {
  return (options as Spelled)[spelling]?.get(name) ?? (options as Record<string, unknown>)[name];
}
