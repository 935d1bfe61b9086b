// A checked schema as text, for comparison with a recorded one.

import { unreachable } from '../../codegen/errors.ts';
import type {
  Command,
  Definition,
  EnumValue,
  Event,
  Member,
  ObjectType,
  Schema,
  Type,
} from '../../codegen/types.ts';

export function describeSchema(schema: Schema): string {
  const modules = schema.modules.map(({ file, parts }) => {
    const texts = parts.map((part) =>
      (part.kind === 'prose' ? ['prose'] : describe(part)).join('\n'),
    );
    return `module ${file.replace(/^.*\//, '')}\n${texts.join('\n')}`;
  });
  const implicit = [...schema.types.values()].filter(
    (type) => type.kind === 'object' && type.origin !== 'definition',
  );
  const hidden = implicit.map((type) => describeObject(type as ObjectType).join('\n'));
  return `${[...modules, 'implicit types', ...hidden].join('\n')}\n`;
}

function describe(definition: Definition): string[] {
  switch (definition.kind) {
    case 'enum':
      return [`enum ${definition.name}${tags(definition)}`, ...definition.values.map(valueLine)];
    case 'object':
      return describeObject(definition);
    case 'alternate':
      return [
        `alternate ${definition.name}${tags(definition)}`,
        ...definition.branches.map(({ name, type }) => `    ${name}: ${typeName(type)}`),
      ];
    case 'command':
      return describeCommand(definition);
    case 'event':
      return [`event ${definition.name}${tags(definition)}`, ...payload(definition)];
    default:
      return unreachable(definition);
  }
}

function describeObject(type: ObjectType): string[] {
  const { name, meta, base, ownMembers, members, variants } = type;
  return [
    `${meta} ${name}${tags(type)}`,
    ...(base === undefined ? [] : [`    base ${base.name}`]),
    ...ownMembers.map(memberLine),
    `    all members: ${members.map((member) => member.name).join(' ')}`,
    ...(variants === undefined ? [] : [`    tag ${variants.tag.name}`]),
    ...(variants?.cases ?? []).map((each) => `    case ${each.name}: ${each.type.name}`),
  ];
}

function describeCommand(command: Command): string[] {
  const { returns, boxed, gen, successResponse, allowOob, allowPreconfig, coroutine } = command;
  const flags = { boxed, gen, successResponse, allowOob, allowPreconfig, coroutine };
  const text = Object.entries(flags).map(([name, value]) => `${name}=${value}`);
  return [
    `command ${command.name}${tags(command)}`,
    `    ${text.join(' ')}`,
    ...payload(command),
    ...(returns === undefined ? [] : [`    returns ${typeName(returns)}`]),
  ];
}

function payload(definition: Command | Event): string[] {
  const type = definition.kind === 'command' ? definition.argumentsType : definition.dataType;
  return [`    takes ${type.name}`];
}

function valueLine(value: EnumValue): string {
  return `    ${value.name}${tags(value)}`;
}

function memberLine(member: Member): string {
  const { name, type, optional } = member;
  return `    ${optional ? '*' : ''}${name}: ${typeName(type)}${tags(member)}`;
}

function tags({ features }: { readonly features: readonly { readonly name: string }[] }): string {
  return features.length === 0 ? '' : ` [${features.map((feature) => feature.name).join(' ')}]`;
}

function typeName(type: Type): string {
  return type.kind === 'array' ? `[${typeName(type.element)}]` : type.name;
}
