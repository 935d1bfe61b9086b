// The clients that are examined: nodes of a daemon, ours or the reference, asked by way of exports and seen from outside.

import { waitUntil } from '../../conformance/daemon-process.ts';
import type { Side } from '../../conformance/side.ts';
import { exported, type Served, serve } from '../../interop/serve.ts';
import { CMD, errorOf, NbdWireClient, type Request } from '../nbd-wire-client.ts';
import { AT, type Client, type Command, LENGTH } from './rule.ts';

const requests: Readonly<Record<Command, Request>> = {
  read: { type: CMD.READ, offset: AT, length: LENGTH },
  write: { type: CMD.WRITE, offset: AT, payload: Buffer.alloc(LENGTH, 1) },
  flush: { type: CMD.FLUSH },
  status: { type: CMD.BLOCK_STATUS, offset: AT, length: LENGTH },
};

const ANSWER_LIMIT_MS = 20_000;

/** What every byte of the image of the bystander is. */
const BYSTANDER_BYTE = 0x5a;

export class SubjectDaemon {
  readonly #served: Served;
  /** A client of another export, all the time. */
  readonly #bystander: NbdWireClient;
  #nodes = 0;

  private constructor(served: Served, bystander: NbdWireClient) {
    this.#served = served;
    this.#bystander = bystander;
  }

  static async start(side: Side): Promise<SubjectDaemon> {
    const served = await serve({
      side,
      files: [{ name: 'a.img', length: 512, fill: [[0, 512, BYSTANDER_BYTE]] }],
      arguments: [
        '--object',
        'tls-creds-anon,id=tls,endpoint=client',
        ...exported('a.img'),
        // Nothing else tells why it left a server.
        ...(side.name === 'reference' ? ['--trace', 'nbd_co_request_fail'] : []),
      ],
    });
    const bystander = await NbdWireClient.ready(served.socket, { name: 'ex', structured: false });
    return new SubjectDaemon(served, bystander);
  }

  /** How it ended, in words. */
  async stop(): Promise<string> {
    this.#bystander.close();
    return this.#served.stop();
  }

  /** Another node, with its export and a client of that. */
  client(): SubjectClient {
    return new SubjectClient(this.#served, `n${this.#nodes++}`);
  }

  /** Whether the others are still served. */
  async isWell(): Promise<boolean> {
    const [reply] = await this.#bystander.request({ type: CMD.READ, length: 1 }, 1);
    return reply?.data[0] === BYSTANDER_BYTE;
  }
}

export class SubjectClient implements Client {
  readonly #served: Served;
  readonly #node: string;
  /** Where what the daemon says of this node begins. */
  readonly #begin: number;
  #wire: NbdWireClient | undefined;

  constructor(served: Served, node: string) {
    this.#served = served;
    this.#node = node;
    this.#begin = served.daemon.stderr.length;
  }

  async open(options: object): Promise<string | undefined> {
    const command = {
      execute: 'blockdev-add',
      arguments: { 'node-name': this.#node, ...options },
    };
    const answers = await this.#served.qmp.command(JSON.stringify(command), ANSWER_LIMIT_MS);
    const { error } = JSON.parse(answers.at(-1) ?? '') as { error?: { desc: string } };
    return error?.desc;
  }

  async carryOut(command: Command): Promise<number> {
    this.#wire ??= await this.#connect(command);
    const length = command === 'read' ? LENGTH : 0;
    const replies = await this.#wire.request(requests[command], length);
    return errorOf(replies.at(-1))?.error ?? 0;
  }

  async reason(): Promise<string> {
    const { daemon } = this.#served;
    const said = (): string | undefined =>
      /(?:err: |NBD server of node '\w+': )(.*)\n/.exec(daemon.stderr.slice(this.#begin))?.[1];
    await waitUntil(() => said() !== undefined, ANSWER_LIMIT_MS);
    return said() ?? '';
  }

  close(): void {
    this.#wire?.close();
  }

  async #connect(command: Command): Promise<NbdWireClient> {
    const name = this.#node;
    const add = { type: 'nbd', id: name, 'node-name': name, name, writable: true };
    await this.#served.qmp.expect('block-export-add', add);
    // Where replies are simple nobody asks what is a hole before he reads.
    const wanted = command === 'status' ? { contexts: ['base:allocation'] } : { structured: false };
    return NbdWireClient.ready(this.#served.socket, { name, ...wanted });
  }
}
