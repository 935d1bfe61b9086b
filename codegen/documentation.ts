// What a definition's documentation comment must and may cover.

import { SchemaError, unreachable } from './errors.ts';
import type { SourceInfo } from './source-info.ts';
import type { Definition } from './types.ts';

/** Everything documented exists; everything that exists is documented, unless a pragma excuses it. */
export function checkDocumentation(definition: Definition): void {
  const { doc, info } = definition;
  if (doc === undefined) return;
  const members = documentable(definition);
  const features = documentedFeatures(definition);
  rejectBogus(doc.members, members, 'member', info);
  rejectBogus(doc.features, features, 'feature', info);
  const missing = features.find((name) => !doc.features.has(name));
  if (missing !== undefined) {
    throw new SchemaError(info, `feature '${missing}' lacks documentation`);
  }
  const { docRequired, documentationExceptions } = info.pragma;
  if (!docRequired || documentationExceptions.has(definition.name)) return;
  const silent = members.find((name) => !doc.members.has(name));
  if (silent !== undefined) {
    throw new SchemaError(info, `member '${silent}' lacks documentation`);
  }
}

function rejectBogus(
  documented: ReadonlyMap<string, { readonly info: SourceInfo }>,
  known: readonly string[],
  what: string,
  info: SourceInfo,
): void {
  for (const [name, section] of documented) {
    if (known.includes(name)) continue;
    const at =
      info.definition === undefined
        ? section.info
        : { ...section.info, definition: info.definition };
    throw new SchemaError(at, `documented ${what} '${name}' does not exist`);
  }
}

/** The members that a definition's comment must cover: its own, and those written in place. */
function documentable(definition: Definition): string[] {
  return documentedMembers(definition).map((member) => member.name);
}

function documentedMembers(definition: Definition) {
  switch (definition.kind) {
    case 'enum':
      return definition.values;
    case 'alternate':
      return definition.branches;
    case 'object': {
      const { base } = definition;
      return [...(base?.origin === 'base' ? base.ownMembers : []), ...definition.ownMembers];
    }
    case 'command':
      return definition.argumentsType.origin === 'arguments'
        ? definition.argumentsType.ownMembers
        : [];
    case 'event':
      return definition.dataType.origin === 'arguments' ? definition.dataType.ownMembers : [];
    default:
      return unreachable(definition);
  }
}

/** The features of a definition and of what its comment covers. */
export function documentedFeatures(definition: Definition): string[] {
  const inner = documentedMembers(definition).flatMap((member) =>
    'features' in member ? member.features : [],
  );
  return [...new Set([...definition.features, ...inner].map((feature) => feature.name))];
}
