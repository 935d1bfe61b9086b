// What a process has open.

import { readdirSync, readlinkSync } from 'node:fs';

/** How many descriptors it has, but for the kernel's ring: a daemon makes that when it first needs one, and keeps it. */
export function openDescriptors(pid: number): number {
  const folder = `/proc/${pid}/fd`;
  return readdirSync(folder).filter((name) => counts(`${folder}/${name}`)).length;
}

function counts(link: string): boolean {
  try {
    return readlinkSync(link) !== 'anon_inode:[io_uring]';
  } catch {
    // It is closed by now.
    return false;
  }
}
