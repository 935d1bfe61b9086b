// Fast tests: no daemon process, no external program.
import { defineConfig } from 'vitest/config';
import { shared } from './shared.ts';

export default defineConfig({
  ...shared,
  test: { ...shared.test, include: ['test/{unit,schema,architecture}/**/*.test.ts'] },
});
