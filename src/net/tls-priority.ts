// GnuTLS priority strings (https://gnutls.org/manual/html_node/Priority-Strings.html) in terms of OpenSSL: which protocol
// versions, cipher suites and groups may be used. A string is a sequence of elements between colons: a keyword, which stands for
// a whole set; `+` or `-` (or `!`) and an algorithm or keyword, which adds or removes; `%` and an option, all of which concern
// details that OpenSSL decides by itself. Order is kept where it means something: ciphers and groups.

import type { SessionMaterial } from '../base/tls-credentials.ts';
import {
  type AlgorithmSets,
  everyOf,
  groupNames,
  type Kind,
  keywords,
  names,
  normal,
  options,
  suites,
} from './tls-algorithms.ts';

export interface TlsParameters {
  readonly minVersion: 'TLSv1.2' | 'TLSv1.3';
  readonly maxVersion: 'TLSv1.2' | 'TLSv1.3';
  /** OpenSSL's names of cipher suites, those of TLS 1.3 among them, separated by colons. */
  readonly ciphers: string;
  /** OpenSSL's names of groups, separated by colons. */
  readonly groups: string;
}

/** What GnuTLS says of a string that it cannot use. */
export class PriorityError extends Error {
  override readonly name = 'PriorityError';
}

const INVALID = 'The request is invalid.';
const INSUFFICIENT = 'No or insufficient priorities were set.';

/** Elements that a kind of credentials adds to the user's, and the key exchanges that are of use with it. */
const additions = {
  x509: { elements: '', usable: /^(?!.*(?:PSK|ANON))/ },
  psk: { elements: ':+ECDHE-PSK:+DHE-PSK:+PSK', usable: /PSK/ },
  anon: { elements: ':+ANON-DH', usable: /ANON/ },
} satisfies Record<SessionMaterial['kind'], { elements: string; usable: RegExp }>;

/** The priority string that the reference uses for credentials of a kind. */
export function effectivePriority(
  priority: string | undefined,
  kind: SessionMaterial['kind'],
): string {
  return `${priority ?? 'NORMAL'}${additions[kind].elements}`;
}

/**
 * What an effective priority string allows with credentials of a kind. Throws PriorityError for one that GnuTLS does not
 * understand, or that leaves nothing to use.
 */
export function parametersOf(priority: string, material: SessionMaterial['kind']): TlsParameters {
  const allowed: { readonly [K in keyof AlgorithmSets]: Set<string> } = {
    version: new Set(),
    cipher: new Set(),
    mac: new Set(),
    exchange: new Set(),
    group: new Set(),
  };
  const change = (kind: Kind, add: boolean, list: readonly string[]): void => {
    if (kind === 'other') return;
    for (const name of list) {
      if (add) allowed[kind].add(name);
      else allowed[kind].delete(name);
    }
  };
  for (const [index, element] of priority.toUpperCase().split(':').entries()) {
    const sign = /^[-+!]/.exec(element)?.[0];
    if (element.startsWith('%')) {
      if (!options.includes(element.slice(1))) throw new PriorityError(INVALID);
      continue;
    }
    if (sign === undefined && index > 0) throw new PriorityError(INVALID);
    const name = sign === undefined ? element : element.slice(1);
    const add = sign !== '-' && sign !== '!';
    const keyword = Object.hasOwn(keywords, name) ? keywords[name] : undefined;
    if (keyword !== undefined) {
      for (const [kind, list] of Object.entries(keyword)) change(kind as Kind, add, list);
    } else if (sign === undefined) {
      throw new PriorityError(INVALID);
    } else if (Object.hasOwn(everyOf, name)) {
      const kind = everyOf[name] as Kind;
      change(kind, add, add && kind !== 'other' ? normal[kind] : names[kind]);
    } else {
      const { kind, plain } = kindOf(name);
      change(kind, add, [plain]);
    }
  }
  for (const name of allowed.exchange) {
    if (!additions[material].usable.test(name)) allowed.exchange.delete(name);
  }
  // Nobody is anonymous in TLS 1.3.
  if (material === 'anon') allowed.version.delete('VERS-TLS1.3');
  return inOpenSsl(allowed);
}

function kindOf(name: string): { readonly kind: Kind; readonly plain: string } {
  // MACs may be spelled with their kind, groups as curves.
  const plain = name.replace(/^MAC-/, '').replace(/^CURVE-/, 'GROUP-');
  for (const [kind, list] of Object.entries(names)) {
    if (list.includes(plain)) return { kind: kind as Kind, plain };
  }
  if (/^SIGN-[\w-]+$/.test(name)) return { kind: 'other', plain: name };
  throw new PriorityError(INVALID);
}

function inOpenSsl(
  allowed: { readonly [K in keyof AlgorithmSets]: ReadonlySet<string> },
): TlsParameters {
  const has12 = allowed.version.has('VERS-TLS1.2');
  const has13 = allowed.version.has('VERS-TLS1.3');
  const ciphers = [...allowed.cipher].flatMap((cipher) =>
    suites.filter(
      (suite) =>
        suite.cipher === cipher &&
        allowed.mac.has(suite.mac) &&
        (suite.exchange === undefined ? has13 : has12 && allowed.exchange.has(suite.exchange)),
    ),
  );
  // The key exchanges' order counts before the ciphers', as GnuTLS sorts suites.
  const order = [undefined, ...allowed.exchange];
  const sorted = order.flatMap((exchange) =>
    ciphers.filter((suite) => suite.exchange === exchange),
  );
  const groups = [...allowed.group].flatMap((group) => groupNames[group] ?? []);
  if (sorted.length === 0 || groups.length === 0) throw new PriorityError(INSUFFICIENT);
  const usable12 = sorted.some(({ exchange }) => exchange !== undefined);
  const usable13 = sorted.some(({ exchange }) => exchange === undefined);
  return {
    minVersion: usable12 ? 'TLSv1.2' : 'TLSv1.3',
    maxVersion: usable13 ? 'TLSv1.3' : 'TLSv1.2',
    ciphers: sorted.map(({ openssl }) => openssl).join(':'),
    groups: groups.join(':'),
  };
}
