// The table is the reference's own answers.

import { describe, expect, it } from 'vitest';
import { closingOrder, type Ending } from '../../../src/export/closing-order.ts';

/** Exports as they were added: n for one that ends at once, N and its number for one with clients, V for one with a frontend. */
function order(added: string): string {
  const exports = added.split(' ').map((name, index) => ({
    what: `${name[0]}${index}`,
    ending: endingOf(name),
  }));
  return closingOrder(exports.reverse()).join(' ');
}

function endingOf(name: string): Ending {
  if (name.startsWith('N')) return { kind: 'clients', heard: Number(name.slice(1)) };
  return { kind: name === 'V' ? 'frontend' : 'at-once' };
}

describe('closingOrder', () => {
  it.each([
    ['n n n', 'n0 n1 n2'],
    ['V V V', 'V2 V1 V0'],
    ['N1 N2', 'N1 N0'],
    ['N2 N1', 'N0 N1'],
    ['n V', 'n0 V1'],
    ['V n', 'n1 V0'],
    ['N1 V', 'V1 N0'],
    ['V N1', 'V0 N1'],
    ['N1 n', 'n1 N0'],
    ['V n N1', 'n1 V0 N2'],
    ['V N1 V', 'V2 V0 N1'],
    ['N1 V N2', 'V1 N2 N0'],
    ['N1 n V n N2', 'n3 n1 V2 N4 N0'],
    ['V N2 V N1', 'V2 V0 N3 N1'],
  ])('of %s is %s', (added, told) => {
    expect(order(added)).toBe(told);
  });

  it('of nothing is nothing', () => {
    expect(closingOrder([])).toEqual([]);
  });
});
