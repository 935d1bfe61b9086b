// control.json and introspect.json: about the daemon and its monitors themselves.

import { QmpError } from '../../qapi/errors.ts';
import {
  type CommandHandlers,
  type CommandName,
  commandTable,
} from '../../qapi/generated/commands.ts';
import type { DaemonServices } from '../daemon-services.ts';
import { versionInfo } from '../version.ts';

export const controlHandlers = {
  // Each monitor carries it out for its own session; elsewhere there is nothing to negotiate.
  qmp_capabilities: () => {
    throw new QmpError('Capabilities negotiation is already complete, command ignored', {
      class: 'CommandNotFound',
    });
  },
  'query-version': (_args, daemon) => versionInfo(daemon.packageName),
  'query-commands': () => Object.keys(commandTable).map((name) => ({ name })),
  'query-qmp-schema': async () => {
    const { introspection } = await import('../../qapi/generated/introspection.ts');
    return [...introspection];
  },
  quit: (_args, daemon) => daemon.quit(),
} satisfies Partial<Pick<CommandHandlers<DaemonServices>, CommandName>>;
