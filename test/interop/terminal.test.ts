// A chardev on the terminal that the daemon was started at: what keys do there while it runs, while it is stopped and goes on,
// and that the terminal is as before in the end.

import { closeSync, constants, openSync } from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { openPseudoTerminal, setTerminalModes, terminalModes } from '../../src/sys/terminal.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { missing } from '../helpers/reference.ts';

const ISIG = 0o1;
const ICANON = 0o2;
const ECHO = 0o10;
const LFLAG_AT = 12;
/** iflag, oflag, cflag and lflag of a terminal that a shell runs at. */
const USUAL = [0o2400, 0o5, 0o277, 0o105073];

const noReference = missing('qemu-storage-daemon');
const commands = [undefined, ...(noReference === undefined ? [['qemu-storage-daemon']] : [])];

interface Keys {
  readonly name: string;
  readonly args: readonly string[];
  readonly echo: boolean;
  readonly signals: boolean;
}

const chardev = (more = ''): readonly string[] => ['--chardev', `stdio,id=c${more}`];
const monitor = ['--monitor', 'c'];
const rows: readonly Keys[] = [
  { name: 'that nobody uses', args: chardev(), echo: false, signals: true },
  {
    name: 'that nobody uses, signal=off',
    args: chardev(',signal=off'),
    echo: false,
    signals: false,
  },
  { name: 'for a monitor', args: [...chardev(), ...monitor], echo: true, signals: true },
  {
    name: 'for a monitor, signal=off',
    args: [...chardev(',signal=off'), ...monitor],
    echo: true,
    signals: false,
  },
];

describe(`a chardev on a terminal (${noReference ?? 'and in the reference'})`, () => {
  it.each(rows)('$name', async ({ args, echo, signals }) => {
    const seen: unknown[] = [];
    for (const command of commands) {
      const terminal = openTerminal();
      const before = terminal.modes();
      const daemon = await startDaemon({
        args,
        stdio: terminal.fd,
        ...(command === undefined ? {} : { command }),
      });
      const running = terminal.modes();
      expect({ command, ...terminal.keys() }).toEqual({ command, echo, lines: echo, signals });
      // As a shell does when the daemon is stopped there, and told to go on.
      daemon.child.kill('SIGSTOP');
      terminal.set(before);
      daemon.child.kill('SIGCONT');
      await expect.poll(() => terminal.modes()).toEqual(running);
      await daemon.qmp.execute('quit');
      await daemon.outcome;
      expect(terminal.modes()).toEqual(before);
      seen.push(running);
    }
    expect(seen.every((modes) => JSON.stringify(modes) === JSON.stringify(seen[0]))).toBe(true);
  });

  it.each(['--blockdev null-co,node-name=1', '--version', '--daemonize'])(
    'leaves the terminal as it was when the daemon does not start: %s',
    async (failing) => {
      const terminal = openTerminal();
      const before = terminal.modes();
      const args = [...chardev(',signal=off'), ...failing.split(' ')];
      await startDaemon({ args, stdio: terminal.fd }).catch(() => undefined);
      expect(terminal.modes()).toEqual(before);
    },
  );

  it('that was removed is as before, whatever signals come then', async () => {
    const terminal = openTerminal();
    const before = terminal.modes();
    const daemon = await startDaemon({ args: chardev(), stdio: terminal.fd });
    await daemon.qmp.execute('chardev-remove', { id: 'c' });
    expect(terminal.modes()).toEqual(before);
    daemon.child.kill('SIGCONT');
    await daemon.qmp.execute('query-chardev');
    expect(terminal.modes()).toEqual(before);
  });
});

interface TestTerminal {
  /** The daemon's end. */
  readonly fd: number;
  /** The numbers that make up the modes. */
  modes(): readonly number[];
  set(modes: readonly number[]): void;
  keys(): { readonly echo: boolean; readonly lines: boolean; readonly signals: boolean };
}

/** A terminal with the usual modes, closed after the test. */
function openTerminal(): TestTerminal {
  const { fd: master, path } = openPseudoTerminal();
  const fd = openSync(path, constants.O_RDWR | constants.O_NOCTTY);
  onTestFinished(() => {
    closeSync(fd);
    closeSync(master);
  });
  const modes = (): number[] => [...(terminalModes(fd) ?? [])];
  const set = (to: readonly number[]): void => setTerminalModes(fd, Buffer.from(to));
  const usual = Buffer.from(modes());
  USUAL.forEach((flags, index) => usual.writeUInt32LE(flags, index * 4));
  set([...usual]);
  const keys = (): ReturnType<TestTerminal['keys']> => {
    const flags = Buffer.from(modes()).readUInt32LE(LFLAG_AT);
    return {
      echo: (flags & ECHO) !== 0,
      lines: (flags & ICANON) !== 0,
      signals: (flags & ISIG) !== 0,
    };
  };
  return { fd, modes, set, keys };
}
