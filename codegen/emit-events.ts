// The events: payloads, names, and a typed way to send each through an event sink.

import { docText, tsDoc } from './doc-text.ts';
import { camelCase } from './names.ts';
import type { Event, Schema } from './types.ts';
import {
  eventsInWireOrder,
  exportedName,
  GENERATED_NOTICE,
  propertyKey,
  quote,
} from './visitor.ts';

export function emitEvents(schema: Schema): string {
  const events = eventsInWireOrder(schema);
  const imports = new Set<string>();
  const members = events.map((event) => eventMember(event, imports));
  const emitters = events.map(emitter);
  const names = events.map(({ name }) => quote(name)).join(', ');
  return `${GENERATED_NOTICE}
import type { ${[...imports].sort().join(', ')} } from './types.ts';

/** What each event carries. */
export interface Events {
${members.join('\n')}
}

export type EventName = keyof Events;

export const eventNames = [${names}] as const satisfies readonly EventName[];

/** What an event is handed to. */
export interface EventReceiver {
  emit<N extends EventName>(name: N, data: Events[N]): void;
}

${emitters.join('\n\n')}
`;
}

function eventMember({ name, doc, dataType }: Event, imports: Set<string>): string {
  imports.add(exportedName(dataType));
  return `${tsDoc(docText(doc, `Sent as ${name}.`), '  ')}\n  ${propertyKey(name)}: ${exportedName(dataType)};`;
}

function emitter({ name, dataType }: Event): string {
  const empty = dataType.origin === 'empty';
  const parameter = empty ? '' : `, data: ${exportedName(dataType)}`;
  return `/** Sends ${name}. */
export function emit${camelCase(name)}(to: EventReceiver${parameter}): void {
  to.emit(${quote(name)}, ${empty ? '{}' : 'data'});
}`;
}
