// Compares two answers to query-qmp-schema by structure: masked type names differ from program to program, so types are
// followed from the commands and events that use them.

import type { SchemaInfo } from '../../src/qapi/generated/types.ts';

/** What differs, as `where: what`. `where` is the way from a command or event to the type: `chardev-add.backend.type`. */
export type Difference = string;

/** Differences between what `ours` lists and the same in `theirs`; commands and events that only `theirs` has do not count. */
export function compareIntrospection(
  ours: readonly SchemaInfo[],
  theirs: readonly SchemaInfo[],
): Difference[] {
  return new Comparison(ours, theirs).run();
}

class Comparison {
  readonly #ours: ReadonlyMap<string, SchemaInfo>;
  readonly #theirs: ReadonlyMap<string, SchemaInfo>;
  readonly #seen = new Set<string>();
  readonly #differences: Difference[] = [];

  constructor(ours: readonly SchemaInfo[], theirs: readonly SchemaInfo[]) {
    this.#ours = new Map(ours.map((entry) => [entry.name, entry]));
    this.#theirs = new Map(theirs.map((entry) => [entry.name, entry]));
  }

  run(): Difference[] {
    for (const entry of this.#ours.values()) {
      const meta = entry['meta-type'];
      if (meta === 'command' || meta === 'event') this.#entry(entry.name, entry.name, entry.name);
    }
    return this.#differences;
  }

  #entry(ourName: string, theirName: string, at: string): void {
    const pair = `${ourName} ${theirName}`;
    if (this.#seen.has(pair)) return;
    this.#seen.add(pair);
    const ours = this.#ours.get(ourName);
    const theirs = this.#theirs.get(theirName);
    if (ours === undefined || theirs === undefined) {
      const who = ours === undefined ? 'we have' : 'the reference has';
      this.#differences.push(`${at}: ${who} no such entry`);
      return;
    }
    this.#equal(at, 'meta-type', ours['meta-type'], theirs['meta-type']);
    this.#equal(at, 'features', ours.features, theirs.features);
    this.#same(ours, theirs, at);
  }

  #same(ours: SchemaInfo, theirs: SchemaInfo, at: string): void {
    if (ours['meta-type'] === 'command' && theirs['meta-type'] === 'command') {
      this.#equal(at, 'allow-oob', ours['allow-oob'], theirs['allow-oob']);
      this.#entry(ours['arg-type'], theirs['arg-type'], at);
      this.#entry(ours['ret-type'], theirs['ret-type'], `${at}()`);
    } else if (ours['meta-type'] === 'event' && theirs['meta-type'] === 'event') {
      this.#entry(ours['arg-type'], theirs['arg-type'], at);
    } else if (ours['meta-type'] === 'builtin' && theirs['meta-type'] === 'builtin') {
      this.#equal(at, 'json-type', ours['json-type'], theirs['json-type']);
    } else if (ours['meta-type'] === 'array' && theirs['meta-type'] === 'array') {
      this.#entry(ours['element-type'], theirs['element-type'], `${at}[]`);
    } else if (ours['meta-type'] === 'enum' && theirs['meta-type'] === 'enum') {
      this.#named(at, 'value', ours.members, theirs.members);
      this.#equal(
        at,
        'values',
        ours.values,
        ours.members.map((member) => member.name),
      );
    } else if (ours['meta-type'] === 'alternate' && theirs['meta-type'] === 'alternate') {
      this.#alternate(ours, theirs, at);
    } else if (ours['meta-type'] === 'object' && theirs['meta-type'] === 'object') {
      this.#object(ours, theirs, at);
    }
  }

  #object(
    ours: SchemaInfo & { 'meta-type': 'object' },
    theirs: SchemaInfo & { 'meta-type': 'object' },
    at: string,
  ): void {
    for (const [mine, their] of this.#named(at, 'member', ours.members, theirs.members)) {
      const member = `${at}.${mine.name}`;
      this.#equal(member, 'optional', 'default' in mine, 'default' in their);
      this.#entry(mine.type, their.type, member);
    }
    this.#equal(at, 'tag', ours.tag, theirs.tag);
    // A value that the tag does not have, and so no variant, is reported with the tag's type.
    for (const variant of ours.variants ?? []) {
      const other = theirs.variants?.find((each) => each.case === variant.case);
      const branch = `${at}.${variant.case}`;
      if (other === undefined) this.#differences.push(`${at}: branch ${variant.case} added`);
      else this.#entry(variant.type, other.type, branch);
    }
  }

  /** Branches have no names: they are matched by what JSON makes of them. */
  #alternate(
    ours: SchemaInfo & { 'meta-type': 'alternate' },
    theirs: SchemaInfo & { 'meta-type': 'alternate' },
    at: string,
  ): void {
    const kind = (entries: ReadonlyMap<string, SchemaInfo>, name: string) => {
      const entry = entries.get(name);
      return entry?.['meta-type'] === 'builtin'
        ? entry['json-type']
        : (entry?.['meta-type'] ?? name);
    };
    const named = (entries: ReadonlyMap<string, SchemaInfo>, types: readonly { type: string }[]) =>
      types.map(({ type }) => ({ name: kind(entries, type), type }));
    const pairs = this.#named(
      at,
      'branch',
      named(this.#ours, ours.members),
      named(this.#theirs, theirs.members),
    );
    for (const [mine, their] of pairs) this.#entry(mine.type, their.type, `${at}<${mine.name}>`);
  }

  /** Reports what one side lacks, features and order of what both have, and returns the pairs. */
  #named<T extends { readonly name: string; readonly features?: string[] }>(
    at: string,
    what: string,
    ours: readonly T[],
    theirs: readonly T[],
  ): [T, T][] {
    const pairs: [T, T][] = [];
    for (const mine of ours) {
      const their = theirs.find((each) => each.name === mine.name);
      if (their === undefined) this.#differences.push(`${at}: ${what} ${mine.name} added`);
      else pairs.push([mine, their]);
    }
    for (const their of theirs) {
      if (!ours.some((each) => each.name === their.name)) {
        this.#differences.push(`${at}: ${what} ${their.name} omitted`);
      }
    }
    for (const [mine, their] of pairs) {
      this.#equal(`${at}.${mine.name}`, 'features', mine.features, their.features);
    }
    const common = new Set(pairs.map(([mine]) => mine.name));
    const order = theirs.map((each) => each.name).filter((name) => common.has(name));
    this.#equal(at, `order of ${what}s`, [...common], order);
    return pairs;
  }

  #equal(at: string, what: string, ours: unknown, theirs: unknown): void {
    const [mine, their] = [JSON.stringify(ours), JSON.stringify(theirs)];
    if (mine !== their) this.#differences.push(`${at}: ${what} is ${mine}, not ${their}`);
  }
}
