// A directory of a test's own, which goes away with the test.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { onTestFinished } from 'vitest';

/** A fresh directory; short, since paths of unix sockets are limited. Removed when the test ends. */
export function tempDir(): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'qsd-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}
