// The commands: what each takes and returns, the type that a complete table of handlers has, and their flags.

import { docText, plain, tsDoc } from './doc-text.ts';
import { unreachable } from './errors.ts';
import type { Command, Schema, Type } from './types.ts';
import {
  commandsInWireOrder,
  exportedName,
  GENERATED_NOTICE,
  propertyKey,
  quote,
} from './visitor.ts';

export function emitCommands(schema: Schema): string {
  // As the reference lists them: the last one first.
  const commands = commandsInWireOrder(schema).reverse();
  const imports = new Set<string>();
  const members = commands.map((command) => commandMember(command, imports));
  const rows = commands.map(commandRow);
  return `${GENERATED_NOTICE}
import type { ${[...imports].sort().join(', ')} } from './types.ts';
import type { TypeName } from './validators.js';

/** What each command takes and returns. \`void\`: the answer is an empty object. */
export interface Commands {
${members.join('\n')}
}

export type CommandName = keyof Commands;

/** One handler for every command; \`D\` is what they work on. */
export type CommandHandlers<D> = {
  readonly [N in CommandName]: (
    args: Commands[N]['arguments'],
    daemon: D,
  ) => Commands[N]['returns'] | Promise<Commands[N]['returns']>;
};

export interface CommandRow {
  /** The validator of the arguments; \`NoArguments\` for a command that takes none. */
  readonly argumentsType: TypeName;
  /** May be run out of band. */
  readonly allowOob: boolean;
  /** May be run before the machine is set up; in a storage daemon always. */
  readonly allowPreconfig: boolean;
  /** Runs in a coroutine in the reference; here every handler may return a promise. */
  readonly coroutine: boolean;
  /** The arguments arrive as one object in every case; kept as documentation of the schema. */
  readonly boxed: boolean;
  /** Whether success is answered. */
  readonly successResponse: boolean;
  readonly features: readonly string[];
}

/** In the order in which \`query-commands\` lists them. */
export const commandTable: { readonly [N in CommandName]: CommandRow } = {
${rows.join('\n')}
};
`;
}

function commandMember(command: Command, imports: Set<string>): string {
  const args = exportedName(command.argumentsType);
  imports.add(args);
  const returns = command.returns === undefined ? 'void' : typeText(command.returns, imports);
  const deprecated = command.doc?.features.get('deprecated')?.text;
  const text = [
    docText(command.doc, `Runs ${command.name}.`),
    ...(deprecated === undefined ? [] : [`@deprecated ${plain(deprecated)}`]),
  ].join('\n\n');
  const key = propertyKey(command.name);
  return `${tsDoc(text, '  ')}\n  ${key}: { arguments: ${args}; returns: ${returns} };`;
}

function commandRow(command: Command): string {
  const { allowOob, allowPreconfig, coroutine, boxed, successResponse } = command;
  const flags = Object.entries({ allowOob, allowPreconfig, coroutine, boxed, successResponse });
  const features = command.features.map((feature) => quote(feature.name)).join(', ');
  const cells = [
    `argumentsType: ${quote(exportedName(command.argumentsType))}`,
    ...flags.map(([name, value]) => `${name}: ${value}`),
    `features: [${features}]`,
  ];
  return `  ${propertyKey(command.name)}: { ${cells.join(', ')} },`;
}

function typeText(type: Type, imports: Set<string>): string {
  switch (type.kind) {
    case 'array':
      return `${typeText(type.element, imports)}[]`;
    case 'builtin':
      return type.json === 'value' ? 'unknown' : type.json === 'int' ? 'number' : type.json;
    case 'enum':
    case 'alternate':
    case 'object':
      imports.add(exportedName(type));
      return exportedName(type);
    default:
      return unreachable(type);
  }
}
