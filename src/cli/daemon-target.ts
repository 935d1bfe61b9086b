// What the options of the second pass do to a daemon.

import { closeSync, openSync } from 'node:fs';
import { strerror } from '../base/errno.ts';
import { traceLine } from '../base/log.ts';
import type { Daemon } from '../daemon.ts';
import { QmpError } from '../qapi/errors.ts';
import { parseChardevOption } from './chardev-option.ts';
import type { OptionTarget } from './options.ts';
import { writeAll } from './write-all.ts';

export function daemonTarget(daemon: Daemon): OptionTarget {
  const { log } = daemon;
  let traceFile: number | undefined;
  return {
    log,
    trace: daemon.trace,
    setTraceFile(path) {
      const fd = openTraceFile(path);
      if (traceFile !== undefined) closeSync(traceFile);
      traceFile = fd;
      daemon.traceTo((name, fields) => writeAll(fd, traceLine(name, fields)));
    },
    addBlockdev: async (options) => {
      const { engine } = await daemon.load();
      await engine.graph.add(options, { fdsByNumber: true });
    },
    addExport: async (options) => (await daemon.load()).engine.exports.add(options),
    addMonitor: (options) => daemon.addMonitor(options),
    startNbdServer: async (options) => (await daemon.load()).engine.exports.startNbdServer(options),
    addObject: async (options) => {
      await daemon.objects.add(options);
    },
    async addChardev(text) {
      const option = parseChardevOption(text, log);
      if (option.help !== undefined) return { exitCode: option.exitCode, output: option.help };
      await daemon.chardevs.addFromCommandLine(option.opts);
      return undefined;
    },
  };
}

function openTraceFile(path: string): number {
  try {
    return openSync(path, 'w');
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException;
    if (errno === undefined) throw error;
    throw new QmpError(`Error opening logfile ${path}: ${strerror(-errno)}`, { cause: error });
  }
}
