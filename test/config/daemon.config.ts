// Slower tests: they start our daemon, and where they compare, the reference and its clients.
import { defineConfig } from 'vitest/config';
import { shared } from './shared.ts';

export default defineConfig({
  ...shared,
  test: {
    ...shared.test,
    include: ['test/{protocol,integration,conformance,interop,fault,fuzz}/**/*.test.ts'],
    maxWorkers: 2,
    // Where others keep the disk busy, an image of small clusters waits for it a thousand times.
    testTimeout: 240_000,
    hookTimeout: 240_000,
  },
});
