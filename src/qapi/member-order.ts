// The order in which the reference walks the members of an object: its hash table's buckets one after the other, and within a
// bucket the member that was added last comes first. Replies are written in this order and requests are checked in it.

/** Buckets of the reference's table. */
const BUCKETS = 512;

/**
 * Where an object remembers the order of arrival of its members. JavaScript itself moves names that look like an array
 * index to the front, so only objects with such a name carry it.
 */
const arrival: unique symbol = Symbol('order of arrival');

type Remembering = object & { [arrival]?: string[] };

/** To be called by the parser before it adds a member `name` to `object`. */
export function noteMember(object: object, name: string): void {
  const names = (object as Remembering)[arrival];
  if (names !== undefined) {
    names.push(name);
  } else if (/^\d/.test(name)) {
    Object.defineProperty(object, arrival, { value: [...Object.keys(object), name] });
  }
}

/** The names of an object's members in the reference's order. */
export function membersInOrder(object: object): string[] {
  const names = [...((object as Remembering)[arrival] ?? Object.keys(object))].reverse();
  if (names.length < 2) return names;
  if (names.length > 16) {
    const buckets = new Map(names.map((name) => [name, bucket(name)]));
    return names.sort((a, b) => (buckets.get(a) as number) - (buckets.get(b) as number));
  }
  const buckets = names.map(bucket);
  for (let i = 1; i < names.length; i += 1) {
    const name = names[i] as string;
    const own = buckets[i] as number;
    let j = i;
    for (; j > 0 && (buckets[j - 1] as number) > own; j -= 1) {
      names[j] = names[j - 1] as string;
      buckets[j] = buckets[j - 1] as number;
    }
    names[j] = name;
    buckets[j] = own;
  }
  return names;
}

/** The bucket of a name: the hash that the tdb database uses, over the name in modified UTF-8. */
function bucket(name: string): number {
  let sum = 0;
  let length = 0;
  for (let i = 0; i < name.length; i += 1) {
    let code = name.charCodeAt(i);
    if (code > 0 && code < 0x80) {
      sum = (sum + (code << ((length * 5) % 24))) | 0;
      length += 1;
      continue;
    }
    if (code >= 0xd800 && code <= 0xdbff) {
      code = name.codePointAt(i) as number;
      i += 1;
    }
    for (const byte of encoded(code)) {
      sum = (sum + (byte << ((length * 5) % 24))) | 0;
      length += 1;
    }
  }
  const hash = (Math.imul(0x238f13af, length) + sum) | 0;
  return (Math.imul(1_103_515_243, hash) + 12_345) & (BUCKETS - 1);
}

function encoded(codePoint: number): Uint8Array | readonly number[] {
  return codePoint === 0 ? [0xc0, 0x80] : Buffer.from(String.fromCodePoint(codePoint), 'utf8');
}
