// The table is the reference's own answers.

import { describe, expect, it } from 'vitest';
import { closingOrder, type Ending } from '../../../src/export/closing-order.ts';

/**
 * Exports as they were added: n for one that ends at once, N and its number for one with a client, M with two, V for one with a
 * frontend.
 */
function order(added: string, share: boolean): string {
  const exports = added.split(' ').map((name, index) => ({
    what: `${name[0]}${index}`,
    ending: endingOf(name),
    sharesDiskWith: () => share,
  }));
  return closingOrder(exports.toReversed()).join(' ');
}

function endingOf(name: string): Ending {
  const heard = Number(name.slice(1));
  if (name.startsWith('N')) return { kind: 'clients', count: 1, heard };
  if (name.startsWith('M')) return { kind: 'clients', count: 2, heard };
  if (name.startsWith('C')) return { kind: 'clients', count: 10_000, heard };
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
    expect(order(added, false)).toBe(told);
  });

  it.each([
    ['N1 n', 'N0 n1'],
    ['N1 N2', 'N1 N0'],
    ['n N1 n', 'n2 N1 n0'],
    ['N1 n N2', 'N0 N2 n1'],
    ['N1 N2 n', 'N0 N1 n2'],
    ['N1 V', 'N0 V1'],
    ['V N1', 'V0 N1'],
    ['V n N1', 'N2 n1 V0'],
    ['N1 n N2 n', 'n3 N0 N2 n1'],
    ['n V N1', 'n0 V1 N2'],
    ['n N1 V', 'V2 N1 n0'],
  ])('of %s, which have the same disk, is %s', (added, told) => {
    expect(order(added, true)).toBe(told);
  });

  it.each([1000, 5000])('of %i exports, every other one with a crowd of clients', (count) => {
    const exports = Array.from({ length: count }, (_, index) => ({
      what: index,
      ending: endingOf(index % 2 === 0 ? 'n' : 'C1'),
      sharesDiskWith: () => true,
    }));
    expect(closingOrder(exports).toSorted((a, b) => a - b)).toEqual([...exports.keys()]);
  });

  it('of nothing is nothing', () => {
    expect(closingOrder([])).toEqual([]);
  });
});
