import { describe, expect, it } from 'vitest';
import { ObjectRegistry } from '../../../src/object/object-registry.ts';
import { QmpError } from '../../../src/qapi/errors.ts';

const registry = () => new ObjectRegistry();

describe('ObjectRegistry', () => {
  it('adds, finds and removes objects', () => {
    const objects = registry();
    void objects.add({ 'qom-type': 'secret', id: 's0', data: 'x' });
    expect(objects.find('s0')).toMatchObject({ id: 's0', type: { name: 'secret' } });
    objects.remove('s0');
    expect(objects.find('s0')).toBeUndefined();
    expect(() => objects.remove('s0')).toThrow(`object 's0' not found`);
  });

  it('refuses an id twice, and leaves the first object', () => {
    const objects = registry();
    const first = objects.add({ 'qom-type': 'secret', id: 's0', data: 'x' });
    expect(() => objects.add({ 'qom-type': 'authz-simple', id: 's0', identity: 'me' })).toThrow(
      `attempt to add duplicate property 's0' to object (type 'container')`,
    );
    expect(objects.find('s0')).toBe(first);
  });

  it.each(['', '1b', 'a b', '/a', '#a'])('refuses the id %j, with a hint', (id) => {
    const add = () => registry().add({ 'qom-type': 'secret', id, data: 'x' });
    expect(add).toThrow(`Parameter 'id' expects an identifier`);
    try {
      void add();
    } catch (error) {
      expect((error as QmpError).hint).toMatch(/^Identifiers consist of letters, digits/);
    }
  });

  it('refuses to set what cannot be set', () => {
    const add = () => registry().add({ 'qom-type': 'secret', id: 's0', data: 'x', loaded: true });
    expect(add).toThrow(`Property 'secret.loaded' is not writable`);
  });

  it('leaves nothing of an object that could not be made', () => {
    const objects = registry();
    expect(() => objects.add({ 'qom-type': 'secret', id: 's0' })).toThrow(QmpError);
    expect(objects.ids()).toEqual([]);
    void objects.add({ 'qom-type': 'secret', id: 's0', data: 'x' });
    expect(objects.ids()).toEqual(['s0']);
  });
});
