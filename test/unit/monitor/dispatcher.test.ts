import { describe, expect, it } from 'vitest';
import { QmpError } from '../../../src/qapi/errors.ts';
import { monitorFixture } from './monitor-fixture.ts';

describe('Dispatcher.execute', () => {
  it('gives what the handler returns', async () => {
    const { dispatcher } = monitorFixture();
    expect(await dispatcher.execute('query-version', {})).toEqual({
      qemu: { major: 7, minor: 2, micro: 22 },
      package: 'test 1',
    });
  });

  it.each(['nope', 'toString', '__proto__'])('knows no command %s', async (name) => {
    const { dispatcher } = monitorFixture();
    await expect(dispatcher.execute(name as 'query-version', {})).rejects.toMatchObject({
      class: 'CommandNotFound',
      desc: `The command ${name} has not been found`,
    });
  });

  it('checks the arguments before the handler sees them', async () => {
    const { dispatcher } = monitorFixture({ block_resize: () => expect.unreachable() });
    const args = { 'node-name': 'n', size: '5' } as unknown as { size: number };
    await expect(dispatcher.execute('block_resize', args)).rejects.toThrow(
      new QmpError("Invalid parameter type for 'size', expected: integer"),
    );
    await expect(dispatcher.execute('query-version', { x: 1 })).rejects.toThrow(
      "Parameter 'x' is unexpected",
    );
  });

  it('passes on the error of the handler as it is', async () => {
    const failure = new QmpError('no', { class: 'DeviceNotFound' });
    const { dispatcher } = monitorFixture({ 'query-block': () => Promise.reject(failure) });
    await expect(dispatcher.execute('query-block', {})).rejects.toBe(failure);
  });

  it('lists commands as the reference does, the last of the schema first', async () => {
    const { dispatcher } = monitorFixture();
    const listed = (await dispatcher.execute('query-commands', {})).map(({ name }) => name);
    const names = listed.filter((name) => !name.startsWith('x-'));
    expect(names.slice(0, 3)).toEqual(['transaction', 'object-del', 'object-add']);
    expect(names.at(-1)).toBe('query-block');
  });

  it('answers query-qmp-schema', async () => {
    const { dispatcher } = monitorFixture();
    const schema = await dispatcher.execute('query-qmp-schema', {});
    expect(schema).toContainEqual(
      expect.objectContaining({ name: 'quit', 'meta-type': 'command' }),
    );
  });
});
