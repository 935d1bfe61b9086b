// stdin and stdout. They are read and written directly: node's own process.stdin and process.stdout must not be touched.

import { QmpError } from '../../qapi/errors.ts';
import type { ChardevStdio } from '../../qapi/generated/types.ts';
import { failure } from '../system-error.ts';
import type { ChardevPort, PortContext } from './chardev.ts';
import { DescriptorPort } from './descriptor-port.ts';

const STDIN = 0;
const STDOUT = 1;

export async function openStdio(options: ChardevStdio, context: PortContext): Promise<ChardevPort> {
  if (context.daemonized) throw new QmpError('cannot use stdio with -daemonize');
  if (context.hasStdio()) {
    throw new QmpError('cannot use stdio by multiple character devices');
  }
  const restore = options.signal === false ? await keepSignalsOff() : () => {};
  try {
    return new DescriptorPort(
      {
        filename: 'stdio',
        input: STDIN,
        output: STDOUT,
        closeDescriptors: false,
        onClose: restore,
      },
      context,
    );
  } catch (error) {
    restore();
    throw failure('Failed to set FD nonblocking', error);
  }
}

/** Makes Ctrl-C on a terminal mere input; answers how to set that back. A monitor leaves the other modes as they are. */
async function keepSignalsOff(): Promise<() => void> {
  const { modesWithoutSignals, setTerminalModes, terminalModes } = await import(
    '../../sys/terminal.ts'
  );
  const before = terminalModes(STDIN);
  if (before === undefined) return () => {};
  const apply = () => setTerminalModes(STDIN, modesWithoutSignals(before));
  apply();
  // The shell has set its own modes while the daemon was stopped.
  process.on('SIGCONT', apply);
  return () => {
    process.off('SIGCONT', apply);
    setTerminalModes(STDIN, before);
  };
}
