// Slower tests: they start our daemon, and where they compare, the reference and its clients.
import { defineConfig } from 'vitest/config';
import { shared } from './shared.ts';

export default defineConfig({
  ...shared,
  test: {
    ...shared.test,
    include: ['test/{protocol,integration,conformance,interop,fault,fuzz}/**/*.test.ts'],
    maxWorkers: 2,
    testTimeout: 60_000,
  },
});
