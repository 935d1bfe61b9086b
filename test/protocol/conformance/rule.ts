// A rule of the NBD specification, how a server is examined for it, and what came out.

import type { ConnectionOptions } from 'node:tls';
import { NbdWireClient, OPT, REP, type ReadyOptions } from '../nbd-wire-client.ts';

export type Level = 'MUST' | 'MUST NOT' | 'SHOULD' | 'SHOULD NOT';

/** Examines a server; throws when it does not do as it should. */
export type Check = (subject: Subject) => Promise<void>;

export interface Rule {
  readonly level: Level;
  /** In our own words, beginning with what is meant. */
  readonly text: string;
  readonly check: Check;
  /** Where the server does otherwise, knowingly. */
  readonly deviation?: {
    /** Why, and as who. */
    readonly reason: string;
    /** That it does what it is said to do instead. */
    readonly instead: Check;
  };
}

export interface Section {
  /** The heading in the specification. */
  readonly name: string;
  readonly rules: readonly Rule[];
}

export interface Finding {
  readonly section: string;
  readonly rule: Rule;
  readonly verdict: 'pass' | 'deviation' | 'fail';
  /** Of a failure: what was wrong. */
  readonly detail: string;
}

export const must = (text: string, check: Check): Rule => ({ level: 'MUST', text, check });
export const mustNot = (text: string, check: Check): Rule => ({ level: 'MUST NOT', text, check });
export const should = (text: string, check: Check): Rule => ({ level: 'SHOULD', text, check });
export const shouldNot = (text: string, check: Check): Rule => ({
  level: 'SHOULD NOT',
  text,
  check,
});

/** A rule that the server does not follow, knowingly. */
export function deviating(rule: Rule, reason: string, instead: Check): Rule {
  return { ...rule, deviation: { reason, instead } };
}

/** Where the server under examination listens: in the clear, and with TLS as a must. */
export interface Doors {
  readonly path: string;
  readonly tlsPath: string;
  /** Who a client is that the second one lets in. */
  readonly identity: ConnectionOptions;
}

/** The server under examination, and clients of it that are closed after each rule. */
export class Subject {
  readonly #doors: Doors;
  readonly #clients: NbdWireClient[] = [];

  constructor(doors: Doors) {
    this.#doors = doors;
  }

  async connect(): Promise<NbdWireClient> {
    return this.#kept(await NbdWireClient.connect(this.#doors.path));
  }

  /** After the greeting. */
  async greeted(clientFlags?: number): Promise<NbdWireClient> {
    return this.#kept(await NbdWireClient.greeted(this.#doors.path, clientFlags));
  }

  /** In the transmission phase; structured replies unless told otherwise. */
  async ready(options?: ReadyOptions): Promise<NbdWireClient> {
    return this.#kept(await NbdWireClient.ready(this.#doors.path, options));
  }

  /** After the greeting of the server that TLS is a must for, still in the clear. */
  async atTlsDoor(clientFlags?: number): Promise<NbdWireClient> {
    return this.#kept(await NbdWireClient.greeted(this.#doors.tlsPath, clientFlags));
  }

  /** Has gone over to TLS. */
  async secured(): Promise<NbdWireClient> {
    const client = await this.atTlsDoor();
    const [reply] = await client.option(OPT.STARTTLS);
    if (reply?.type !== REP.ACK) throw new Error(`NBD_OPT_STARTTLS is answered ${reply?.type}`);
    await this.startTls(client);
    return client;
  }

  async startTls(client: NbdWireClient): Promise<void> {
    await client.startTls(this.#doors.identity);
  }

  leave(): void {
    for (const client of this.#clients.splice(0)) client.close();
  }

  #kept(client: NbdWireClient): NbdWireClient {
    this.#clients.push(client);
    return client;
  }
}

/** Milliseconds that one rule may take: a server that does not answer fails it. */
const RULE_LIMIT = 30_000;

/** Examines the server for every rule, one after the other. */
export async function examine(doors: Doors, sections: readonly Section[]): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const { name, rules } of sections) {
    for (const rule of rules) {
      const failure = await failureOf(doors, rule.check);
      findings.push({ section: name, rule, ...(await verdict(doors, rule, failure)) });
    }
  }
  return findings;
}

async function verdict(
  doors: Doors,
  { deviation }: Rule,
  failure: string | undefined,
): Promise<Pick<Finding, 'verdict' | 'detail'>> {
  if (deviation === undefined) {
    return failure === undefined
      ? { verdict: 'pass', detail: '' }
      : { verdict: 'fail', detail: failure };
  }
  if (failure === undefined) {
    return { verdict: 'fail', detail: 'follows the rule, though it is said not to' };
  }
  const other = await failureOf(doors, deviation.instead);
  return other === undefined
    ? { verdict: 'deviation', detail: '' }
    : { verdict: 'fail', detail: other };
}

async function failureOf(doors: Doors, check: Check): Promise<string | undefined> {
  const subject = new Subject(doors);
  let timer: NodeJS.Timeout | undefined;
  try {
    const limit = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error('no answer')), RULE_LIMIT);
    });
    await Promise.race([check(subject), limit]);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  } finally {
    clearTimeout(timer);
    subject.leave();
  }
}
