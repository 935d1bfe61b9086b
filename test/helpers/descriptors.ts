// What a process has open, and what it has mapped of files that live in memory.

import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** How many descriptors it has, but for the kernel's ring: a daemon makes that when it first needs one, and keeps it. */
export function openDescriptors(pid: number): number {
  const folder = `/proc/${pid}/fd`;
  return readdirSync(folder).filter((name) => counts(`${folder}/${name}`)).length;
}

/** How many pieces of memfds it has mapped: of its own, and of those that others have sent. */
export function memfdMappings(pid: number): number {
  const maps = readFileSync(`/proc/${pid}/maps`, 'latin1');
  return maps.split('\n').filter((line) => line.includes('/memfd:')).length;
}

function counts(link: string): boolean {
  try {
    return readlinkSync(link) !== 'anon_inode:[io_uring]';
  } catch {
    // It is closed by now.
    return false;
  }
}
