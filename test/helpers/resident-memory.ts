// How much of the machine's memory a process takes.

import { readFileSync } from 'node:fs';

/** In KiB. Throws when there is no such process. */
export function residentKilobytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]);
}
