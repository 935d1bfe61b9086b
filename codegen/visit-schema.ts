// The form of the types that validators are compiled from: JSON Schema whose keywords carry the visiting order, the one thing
// that standard keywords leave open. A checker must find the same first fault as the reference's input visitor.

import { unreachable } from './errors.ts';
import { jsonKindOf, type Member, type ObjectType, type Type } from './types.ts';
import { exportedName, type NamedType } from './visitor.ts';

/** A schema in the keywords of qapi-keywords.ts. */
export type VisitSchema =
  | { readonly qapiBuiltin: string }
  | { readonly qapiEnum: readonly string[] }
  | { readonly qapiArray: VisitSchema }
  | { readonly qapiObject: ObjectVisit }
  | { readonly qapiAlternate: AlternateVisit }
  | { readonly $ref: string };

export interface MemberVisit {
  readonly name: string;
  readonly optional: boolean;
  readonly schema: VisitSchema;
}

export interface ObjectVisit {
  /** In visiting order. */
  readonly members: readonly MemberVisit[];
  readonly variants?: {
    readonly tag: string;
    /** Values of the tag that bring the same members. Values without members are not listed. */
    readonly groups: readonly {
      readonly values: readonly string[];
      readonly members: readonly MemberVisit[];
    }[];
  };
}

export interface AlternateVisit {
  /** The type's name, which the message gives as what was expected. */
  readonly name: string;
  /** By what the JSON value is. */
  readonly branches: readonly { readonly json: BranchJson; readonly schema: VisitSchema }[];
}

export type BranchJson = 'string' | 'number' | 'boolean' | 'null' | 'object' | 'array';

/** Definitions by exported name, for the given types and all they use. */
export function visitDefinitions(roots: readonly Type[]): Record<string, VisitSchema> {
  const definitions: Record<string, VisitSchema> = {};
  roots.forEach(define);
  return definitions;

  function define(type: Type): void {
    if (type.kind === 'builtin') return;
    if (type.kind === 'array') return define(type.element);
    const name = exportedName(type);
    if (Object.hasOwn(definitions, name)) return;
    // Holds the place against recursion.
    definitions[name] = { $ref: name };
    definitions[name] = visitSchema(type);
    usedBy(type).forEach(define);
  }
}

function usedBy(type: NamedType): readonly Type[] {
  switch (type.kind) {
    case 'enum':
      return [];
    case 'alternate':
      return type.branches.map((branch) => branch.type);
    case 'object':
      return [type, ...(type.variants?.cases ?? []).map((each) => each.type)].flatMap((object) =>
        object.members.map((member) => member.type),
      );
    default:
      return unreachable(type);
  }
}

function visitSchema(type: NamedType): VisitSchema {
  switch (type.kind) {
    case 'enum':
      return { qapiEnum: type.values.map((value) => value.name) };
    case 'alternate':
      return {
        qapiAlternate: {
          name: type.name,
          branches: type.branches.map((branch) => ({
            json: branchJson(branch.type),
            schema: useOf(branch.type),
          })),
        },
      };
    case 'object':
      return { qapiObject: visitObject(type) };
    default:
      return unreachable(type);
  }
}

function visitObject({ members, variants }: ObjectType): ObjectVisit {
  const own = members.map(visitMember);
  if (variants === undefined) return { members: own };
  const groups = new Map<ObjectType, string[]>();
  for (const { name, type } of variants.cases) {
    if (type.members.length > 0) groups.set(type, [...(groups.get(type) ?? []), name]);
  }
  return {
    members: own,
    variants: {
      tag: variants.tag.name,
      groups: [...groups].map(([type, values]) => ({
        values,
        members: type.members.map(visitMember),
      })),
    },
  };
}

function visitMember({ name, optional, type }: Member): MemberVisit {
  return { name, optional, schema: useOf(type) };
}

function useOf(type: Type): VisitSchema {
  if (type.kind === 'builtin') return { qapiBuiltin: type.name };
  if (type.kind === 'array') return { qapiArray: useOf(type.element) };
  return { $ref: `#/definitions/${exportedName(type)}` };
}

function branchJson(type: Type): BranchJson {
  const json = jsonKindOf(type);
  if (json === 'int') return 'number';
  // The semantic checks refuse such a branch.
  if (json === 'value') throw new Error(`alternate branch of type ${type.name}`);
  return json;
}
