// What the cases of the command line share.

import type { CommandLineCase, FileSetup } from '../../case.ts';

export const quit = '{"execute":"qmp_capabilities"}{"execute":"quit"}';
const monitor = ['--chardev', 'stdio,id=qmp', '--monitor', 'qmp'];
const files: readonly FileSetup[] = [
  { name: 'a.img', length: 1048576 },
  { name: 'a,b.img', length: 1048576 },
  { name: 'events', text: '# nothing\n' },
];

/** Fails, or prints and ends. */
export const run = (...args: string[]): CommandLineCase => ({
  id: args.join(' ') || '(empty)',
  arguments: args,
  files,
});
/** Starts: quits by a monitor on stdio that stands last, after questions to it. */
export const starts = (args: readonly string[], questions = ''): CommandLineCase => ({
  id: `${args.join(' ')} then ${questions === '' ? 'quit' : questions}`,
  arguments: [...args, ...monitor],
  stdin: quit.replace('{"execute":"quit"}', `${questions}{"execute":"quit"}`),
  files,
});

export const chardevs = '{"execute":"query-chardev"}';
