// What a definition in the schema says, with shorthand written out and names not yet resolved.

import type { DocComment } from './doc-comment.ts';
import type { SourceInfo } from './source-info.ts';

export type Condition =
  | { readonly kind: 'symbol'; readonly name: string }
  | { readonly kind: 'not'; readonly operand: Condition }
  | { readonly kind: 'all' | 'any'; readonly operands: readonly Condition[] };

/** A type by name, or an array of one. */
export interface TypeReference {
  readonly name: string;
  readonly array: boolean;
}

export interface FeatureDefinition {
  readonly name: string;
  readonly info: SourceInfo;
  readonly condition: Condition | undefined;
}

export interface MemberDefinition extends FeatureDefinition {
  readonly type: TypeReference;
  readonly optional: boolean;
  readonly features: readonly FeatureDefinition[];
}

export interface ValueDefinition extends FeatureDefinition {
  readonly features: readonly FeatureDefinition[];
}

export interface BranchDefinition extends FeatureDefinition {
  readonly type: TypeReference;
}

export interface Common extends FeatureDefinition {
  readonly doc: DocComment | undefined;
  readonly features: readonly FeatureDefinition[];
}

export interface EnumDefinition extends Common {
  readonly meta: 'enum';
  readonly prefix: string | undefined;
  readonly values: readonly ValueDefinition[];
}

export interface StructDefinition extends Common {
  readonly meta: 'struct';
  readonly base: string | undefined;
  readonly members: readonly MemberDefinition[];
}

export interface UnionDefinition extends Common {
  readonly meta: 'union';
  readonly base: string | readonly MemberDefinition[];
  readonly discriminator: string;
  readonly branches: readonly BranchDefinition[];
}

export interface AlternateDefinition extends Common {
  readonly meta: 'alternate';
  readonly branches: readonly BranchDefinition[];
}

export interface CommandDefinition extends Common {
  readonly meta: 'command';
  /** A type's name, or members written in place. */
  readonly data: string | readonly MemberDefinition[] | undefined;
  readonly returns: TypeReference | undefined;
  readonly boxed: boolean;
  readonly gen: boolean;
  readonly successResponse: boolean;
  readonly allowOob: boolean;
  readonly allowPreconfig: boolean;
  readonly coroutine: boolean;
}

export interface EventDefinition extends Common {
  readonly meta: 'event';
  readonly data: string | readonly MemberDefinition[] | undefined;
  readonly boxed: boolean;
}

export type Definition =
  | EnumDefinition
  | StructDefinition
  | UnionDefinition
  | AlternateDefinition
  | CommandDefinition
  | EventDefinition;

export type Meta = Definition['meta'];
