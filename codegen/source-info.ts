// Where in the schema a thing stands, what was read there, and the pragmas in force for the whole schema.

/** Schema-wide switches, set by `{ 'pragma': { ... } }`. The last setting of each wins for the whole schema. */
export interface Pragma {
  /** Every definition must have a documentation comment, and the comment must cover every member. */
  docRequired: boolean;
  /** Definitions whose members may stay undocumented. */
  documentationExceptions: ReadonlySet<string>;
  /** Commands whose names may contain '_'. */
  commandNameExceptions: ReadonlySet<string>;
  /** Commands that may return something other than an object or a list of objects. */
  commandReturnsExceptions: ReadonlySet<string>;
  /** Types whose members or values may contain upper case and '_'. */
  memberNameExceptions: ReadonlySet<string>;
}

export interface SourceInfo {
  readonly file: string;
  readonly line: number;
  readonly pragma: Pragma;
  /** The 'include' directive that brought this file in. */
  readonly includedFrom?: SourceInfo;
  /** The definition being read, as `struct 'Name'`. */
  readonly definition?: string;
}

/** A parsed value and the place where it starts; of an object's member, where its key stands. */
export interface Node {
  readonly info: SourceInfo;
  readonly value: string | boolean | readonly Node[] | ObjectNode;
}

export type ObjectNode = ReadonlyMap<string, Node>;

export function defaultPragma(): Pragma {
  return {
    docRequired: false,
    documentationExceptions: new Set(),
    commandNameExceptions: new Set(),
    commandReturnsExceptions: new Set(),
    memberNameExceptions: new Set(),
  };
}

/** The same place, known to lie inside a definition. */
export function inDefinition(info: SourceInfo, meta: string, name: string): SourceInfo {
  return { ...info, definition: `${meta} '${name}'` };
}

/** `file:line`, preceded by the chain of includes and the enclosing definition, one per line, as compilers print it. */
export function describePlace(info: SourceInfo): string {
  let text = '';
  for (let from = info.includedFrom; from !== undefined; from = from.includedFrom) {
    text = `In file included from ${from.file}:${from.line}:\n${text}`;
  }
  if (info.definition !== undefined) text += `${info.file}: In ${info.definition}:\n`;
  return `${text}${info.file}:${info.line}`;
}
