// Options as one level of names: `{ cache: { direct: true } }` is `cache.direct: true`. Reopening compares old and new
// options in this form, and says their names so.

export type FlatOptions = Record<string, unknown>;

/** Elements of lists are named by their place: `rules.0`. An object without members stays one, under its own name. */
export function flatten(options: object): FlatOptions {
  const flat: FlatOptions = {};
  for (const [name, value] of Object.entries(options)) {
    if (!isObject(value) || Object.keys(value).length === 0) {
      flat[name] = value;
      continue;
    }
    for (const [below, leaf] of Object.entries(flatten(value))) flat[`${name}.${below}`] = leaf;
  }
  return flat;
}

/** Options joined from several places may say both what `file` is and what `file.driver` is: the former counts. */
export function unflatten(flat: FlatOptions): object {
  const options: Record<string, unknown> = {};
  for (const [path, value] of Object.entries(flat)) {
    const names = path.split('.');
    if (names.some((_, index) => isLeaf(flat[names.slice(0, index).join('.')]))) continue;
    const last = names.pop() as string;
    let at = options;
    for (const name of names) at = (at[name] ??= {}) as Record<string, unknown>;
    at[last] = value;
  }
  return options;
}

/** Takes `name` and everything below it out of `flat`; answers what is below. */
export function takeBelow(flat: FlatOptions, name: string): FlatOptions {
  const taken: FlatOptions = {};
  const prefix = `${name}.`;
  for (const [path, value] of Object.entries(flat)) {
    if (!path.startsWith(prefix)) continue;
    taken[path.slice(prefix.length)] = value;
    delete flat[path];
  }
  return taken;
}

function isLeaf(value: unknown): boolean {
  return value !== undefined && !isObject(value);
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}
