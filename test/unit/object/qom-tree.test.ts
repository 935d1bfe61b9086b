import { describe, expect, it } from 'vitest';
import { ObjectRegistry } from '../../../src/object/object-registry.ts';
import {
  getQomProperty,
  listQomProperties,
  qomTree,
  resolveQomPath,
  settableQomProperty,
} from '../../../src/object/qom-tree.ts';

function tree() {
  const objects = new ObjectRegistry();
  void objects.add({ 'qom-type': 'secret', id: 's0', data: 'hello' });
  void objects.add({ 'qom-type': 'authz-list', id: 'both', policy: 'allow' });
  const socket = {
    id: 'both',
    type: 'chardev-socket',
    get: (name: string) => (name === 'connected' ? true : undefined),
  };
  return qomTree(objects, [socket]);
}

const at = (path: string) => resolveQomPath(tree(), path, { ambiguity: true });

describe('resolveQomPath', () => {
  it.each([
    '/',
    '/objects',
    '/objects/',
    'objects',
    '/objects/s0',
    '//objects//s0/',
    's0',
    'objects/s0',
  ])('finds %s', (path) => {
    expect(at(path).path).toBe(
      path.includes('s0') ? '/objects/s0' : path.includes('o') ? '/objects' : '/',
    );
  });

  it.each(['/nope', 'nope', '/s0', '/objects/s0/type', 'type'])('does not find %s', (path) => {
    expect(() => at(path)).toThrow(`Device '${path}' not found`);
  });

  it('tells when a partial path is ambiguous, where that matters', () => {
    expect(() => at('both')).toThrow(`Path 'both' is ambiguous`);
    expect(() => at('')).toThrow(`Path '' is ambiguous`);
    expect(() => resolveQomPath(tree(), 'both')).toThrow(`Device 'both' not found`);
  });

  it('has no /objects before the first object, and no /chardevs before the first chardev', () => {
    expect([...qomTree(new ObjectRegistry(), undefined).children.keys()]).toEqual([]);
  });
});

describe('listQomProperties', () => {
  it('lists properties, general ones first, and children', () => {
    expect(listQomProperties(at('/objects/s0')).map(({ name }) => name)).toEqual([
      'type',
      'iv',
      'keyid',
      'loaded',
      'format',
      'file',
      'data',
    ]);
    expect(listQomProperties(at('/'))).toEqual([
      { name: 'type', type: 'string' },
      { name: 'objects', type: 'child<container>' },
      { name: 'chardevs', type: 'child<container>' },
    ]);
  });
});

describe('getQomProperty', () => {
  it('gets types, values and the paths of children', () => {
    expect(getQomProperty(at('/objects/s0'), 'type')).toBe('secret');
    expect(getQomProperty(at('/objects/s0'), 'data')).toBe('hello');
    expect(getQomProperty(at('/objects'), 's0')).toBe('/objects/s0');
    expect(getQomProperty(at('/chardevs/both'), 'connected')).toBe(true);
    expect(() => getQomProperty(at('s0'), 'nope')).toThrow(`Property 'secret.nope' not found`);
  });
});

describe('settableQomProperty', () => {
  it.each([
    ['/objects/s0', 'nope', `Property 'secret.nope' not found`],
    ['/objects/s0', 'loaded', `Property 'secret.loaded' is not writable`],
    ['/objects/s0', 'type', `Property 'secret.type' is not writable`],
    ['/objects', 's0', `Property 'container.s0' is not writable`],
    ['/chardevs/both', 'connected', `Property 'chardev-socket.connected' is not writable`],
  ])('refuses %s %s', (path, property, message) => {
    expect(() => settableQomProperty(at(path), property)).toThrow(message);
  });

  it('finds what can be set', () => {
    expect(settableQomProperty(at('s0'), 'data').row.name).toBe('data');
  });
});
