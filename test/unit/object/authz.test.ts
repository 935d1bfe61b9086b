import { describe, expect, it } from 'vitest';
import { isAuthorized } from '../../../src/object/authz.ts';
import { ObjectRegistry } from '../../../src/object/object-registry.ts';

function objects(): ObjectRegistry {
  const registry = new ObjectRegistry();
  void registry.add({ 'qom-type': 'authz-simple', id: 'simple', identity: 'CN=joe' });
  void registry.add({ 'qom-type': 'authz-list', id: 'empty' });
  void registry.add({
    'qom-type': 'authz-list',
    id: 'list',
    policy: 'allow',
    rules: [
      { match: 'CN=joe', policy: 'allow' },
      { match: 'CN=j*', policy: 'deny', format: 'glob' },
      { match: 'CN=*', policy: 'deny' },
    ],
  });
  void registry.add({ 'qom-type': 'secret', id: 'secret', data: 'x' });
  return registry;
}

describe('isAuthorized', () => {
  it.each([
    ['simple', 'CN=joe', true],
    ['simple', 'CN=jo', false],
    ['empty', 'CN=joe', false],
    ['list', 'CN=joe', true],
    ['list', 'CN=jim', false],
    ['list', 'CN=sue', true],
    ['list', 'CN=*', false],
  ])('%s, %s: %s', (id, identity, allowed) => {
    expect(isAuthorized(id, identity, objects())).toBe(allowed);
  });

  it('refuses what is no authorization object', () => {
    expect(() => isAuthorized('az', 'x', objects())).toThrow('Cannot find QAuthZ object ID az');
    expect(() => isAuthorized('secret', 'x', objects())).toThrow(
      `Object 'secret' is not a QAuthZ subclass`,
    );
  });
});
