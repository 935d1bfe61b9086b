// A rule of the NBD specification for servers, a server that breaks it, and what becomes of its clients.

import type { Script, SeenRequest } from '../../unit/block/drivers/nbd/scripted-server.ts';

export type Level = 'MUST' | 'MUST NOT' | 'SHOULD' | 'SHOULD NOT';

/** What is asked of the server when the handshake went well. */
export type Command = 'read' | 'write' | 'flush' | 'status';

export type Outcome =
  /** There is no node; `farewell`: the server is told with NBD_OPT_ABORT. */
  | { readonly is: 'refused'; readonly error: string; readonly farewell: boolean }
  /** The request fails, the connection ends, and there never is another one. */
  | { readonly is: 'left'; readonly errno: number; readonly reason: string }
  /** The request fails because the connection is gone; the next one makes another. */
  | { readonly is: 'lost'; readonly errno: number }
  /** The request fails, and nothing else. */
  | { readonly is: 'failed'; readonly errno: number }
  | { readonly is: 'tolerated' };

export interface Rule {
  readonly level: Level;
  /** In our own words, beginning with what is meant. */
  readonly text: string;
  /** The server that breaks it, as far as it does not do so by `reply`. */
  readonly server?: Script;
  /** More options of the node. */
  readonly node?: object;
  /** What is asked of the server behind the handshake, if anything is. */
  readonly command?: Command;
  /** What the server says to that; to all else it says yes. */
  readonly reply?: (request: SeenRequest) => Buffer;
  /** It hangs up then. */
  readonly hangsUp?: boolean;
  readonly ours: Outcome;
  /** What the reference does instead; undefined: the same. */
  readonly reference?: Outcome | 'does not ask for it';
  /** Why we do as the reference, or otherwise. */
  readonly reason?: string;
}

export interface Section {
  /** The heading in the specification. */
  readonly name: string;
  readonly rules: readonly Rule[];
}

/** The bytes that requests are about. */
export const AT = 4096;
export const LENGTH = 1024;

/** A client under examination. */
export interface Client {
  /** Makes a node of the server's export; the error, if there is one. */
  open(node: object): Promise<string | undefined>;
  /** The errno, 0 for success. */
  carryOut(command: Command): Promise<number>;
  /** Why the server was left; waits for it to be. */
  reason(): Promise<string>;
}

export const refused = (error: string, farewell = true): Outcome => ({
  is: 'refused',
  error,
  farewell,
});
export const left = (reason: string, errno: number): Outcome => ({ is: 'left', errno, reason });
export const failed = (errno: number): Outcome => ({ is: 'failed', errno });
export const lost = (errno: number): Outcome => ({ is: 'lost', errno });
export const tolerated: Outcome = { is: 'tolerated' };

/** What is read behind the end of what a server says in the handshake. */
export const endOf = (what: string): string =>
  `Failed to read ${what}: Unexpected end-of-file before all data were read`;
