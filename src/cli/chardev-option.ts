// --chardev BACKEND,id=ID[,...]: its syntax, and its two kinds of help.

import type { Logger } from '../base/log.ts';
import { backendKindsHelp } from '../net/chardev/backends.ts';
import { chardevOptionList, isHelpRequest } from '../net/chardev/command-line.ts';
import { parseQemuOpts, type QemuOpts, qemuOptsHelp } from './qemu-opts.ts';

export type ChardevOption =
  | { readonly help: string; readonly exitCode: number }
  | { readonly help?: undefined; readonly opts: QemuOpts };

/** Throws QmpError. */
export function parseChardevOption(text: string, log: Logger): ChardevOption {
  const opts = parseQemuOpts(text, chardevOptionList, log);
  if (opts === 'help') return { help: qemuOptsHelp(chardevOptionList), exitCode: 1 };
  if (isHelpRequest(opts)) return { help: backendKindsHelp(), exitCode: 0 };
  return { opts };
}
