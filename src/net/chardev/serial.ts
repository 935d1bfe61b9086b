// A serial line, or any terminal: 115200 baud, eight bits, no parity, one stop bit, and nothing done to what goes through.

import { closeSync, constants, openSync } from 'node:fs';
import type { ChardevHostdev } from '../../qapi/generated/types.ts';
import { makeSerialLine } from '../../sys/terminal.ts';
import { failure } from '../system-error.ts';
import type { ChardevPort, PortContext } from './chardev.ts';
import { DescriptorPort } from './descriptor-port.ts';

const FLAGS = constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOCTTY;

export function openSerial({ device }: ChardevHostdev, context: PortContext): ChardevPort {
  const fd = openLine(device);
  try {
    makeSerialLine(fd);
    const ends = { input: fd, output: fd, closeDescriptors: true };
    return new DescriptorPort({ filename: 'serial', ...ends }, context);
  } catch (error) {
    closeSync(fd);
    throw failure('Failed to set FD nonblocking', error);
  }
}

function openLine(path: string): number {
  try {
    return openSync(path, FLAGS);
  } catch (error) {
    throw failure(`Could not open '${path}'`, error);
  }
}
