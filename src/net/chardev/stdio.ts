// stdin and stdout. They are read and written directly: node's own process.stdin and process.stdout must not be touched.

import { isatty } from 'node:tty';
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
  const terminal = isatty(STDIN) ? await takeTerminal(options.signal !== false) : undefined;
  try {
    return new DescriptorPort(
      {
        filename: 'stdio',
        input: STDIN,
        output: STDOUT,
        closeDescriptors: false,
        onAttach: terminal?.showInput,
        onClose: terminal?.restore,
      },
      context,
    );
  } catch (error) {
    terminal?.restore();
    throw failure('Failed to set FD nonblocking', error);
  }
}

/** A terminal that somebody types at. */
interface Terminal {
  /** Lines are edited and echoed, as they were: somebody listens. */
  readonly showInput: () => void;
  readonly restore: () => void;
}

/** Nothing is echoed at first: nobody may ever listen. `signals`: Ctrl-C ends the daemon, and is no input. */
async function takeTerminal(signals: boolean): Promise<Terminal> {
  const { changedModes, setTerminalModes, terminalModes } = await import('../../sys/terminal.ts');
  const before = terminalModes(STDIN);
  let keys = true;
  const apply = (): void => {
    if (before !== undefined) setTerminalModes(STDIN, changedModes(before, { keys, signals }));
  };
  apply();
  // The shell has set its own modes while the daemon was stopped.
  process.on('SIGCONT', apply);
  return {
    showInput() {
      keys = false;
      apply();
    },
    restore() {
      process.off('SIGCONT', apply);
      if (before !== undefined) setTerminalModes(STDIN, before);
    },
  };
}
