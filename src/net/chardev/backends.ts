// What a chardev can be connected to: one row for each kind of the schema. Their code is loaded when one is first opened.

import type { ChardevBackend, ChardevBackendKind } from '../../qapi/generated/types.ts';
import type { ChardevPort, PortContext } from './chardev.ts';

type OptionsOf<Kind extends ChardevBackendKind> = Extract<ChardevBackend, { type: Kind }>['data'];

/** Opens a port, or rejects with why not. */
export const backends = {
  async file(options, context) {
    return (await import('./file.ts')).openFile(options, context);
  },
  async serial(options, context) {
    return (await import('./serial.ts')).openSerial(options, context);
  },
  async pipe(options, context) {
    return (await import('./pipe.ts')).openPipe(options, context);
  },
  async socket(options, context) {
    return (await import('./socket.ts')).openSocket(options, context);
  },
  async pty(options, context) {
    return (await import('./pty.ts')).openPty(options, context);
  },
  async null(options, context) {
    return (await import('./null.ts')).openNull(options, context);
  },
  async mux(options, context) {
    return (await import('./mux.ts')).openMux(options, context);
  },
  async stdio(options, context) {
    return (await import('./stdio.ts')).openStdio(options, context);
  },
  async ringbuf(options, context) {
    return (await import('./ringbuf.ts')).openRingbuf('ringbuf', options, context);
  },
  async memory(options, context) {
    return (await import('./ringbuf.ts')).openRingbuf('memory', options, context);
  },
} satisfies {
  readonly [Kind in ChardevBackendKind]: (
    options: OptionsOf<Kind>,
    context: PortContext,
  ) => Promise<ChardevPort>;
};

/** The kinds as `query-chardev-backends` lists them; `--chardev help` has them the other way round. */
export const backendKinds: readonly ChardevBackendKind[] = [
  'serial',
  'mux',
  'pipe',
  'null',
  'ringbuf',
  'stdio',
  'socket',
  'file',
  'memory',
  'pty',
];

export function isBackendKind(name: string): name is ChardevBackendKind {
  return Object.hasOwn(backends, name);
}

/** What `--chardev help` prints. */
export function backendKindsHelp(): string {
  const lines = backendKinds.toReversed().map((kind) => `  ${kind}\n`);
  return `Available chardev backend types: \n${lines.join('')}`;
}
