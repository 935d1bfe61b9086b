// What every vitest project of this repository has in common.

import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));

export const shared = {
  root,
  test: {
    // Worker threads would abort: a libuv handle of theirs may not outlive them (sys/poller.ts).
    pool: 'forks' as const,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // What is awaited comes late on a busy machine.
    expect: { poll: { timeout: 30_000 } },
    // The list of what failed shows messages, not diffs: 40 characters of a value say too little.
    chaiConfig: { truncateThreshold: 200 },
    env: { NODE_EXTRA_CA_CERTS: '' },
    server: { deps: { external: [/generated\/validators/] } },
  },
};
