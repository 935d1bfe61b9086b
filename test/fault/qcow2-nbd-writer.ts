// Operations on a disk of a daemon: requests over NBD, commands over QMP.

import type { QmpClient } from '../../src/client/qmp-client.ts';
import type { Request } from '../conformance/case.ts';
import { encodeRequest, NbdPeer } from '../conformance/nbd-peer.ts';
import {
  goPayload,
  NBD_CMD_FLUSH,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_FLAGS,
  NBD_OPT_GO,
  NO_HOLE,
} from '../conformance/wire-steps.ts';
import { noisyWords } from '../helpers/marked-words.ts';
import type { Operation, Target } from './qcow2-operations.ts';

const SIMPLE_REPLY = 16;
/** Longer than any test: only a server that is gone says nothing. */
const LONGEST_SILENCE_MS = 600_000;

interface Waiting {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** The export `n` at `socket`, of a node of that name. */
export class NbdWriter implements Target {
  readonly #qmp: QmpClient;
  readonly #peer: NbdPeer;
  readonly #waiting = new Map<bigint, Waiting>();
  #cookie = 0n;

  private constructor(qmp: QmpClient, peer: NbdPeer) {
    this.#qmp = qmp;
    this.#peer = peer;
  }

  static async connect(qmp: QmpClient, socket: string): Promise<NbdWriter> {
    const peer = await NbdPeer.connect(socket);
    await peer.greet(NBD_FLAGS);
    peer.sendOption(NBD_OPT_GO, goPayload('n', []));
    await peer.optionReplies();
    const writer = new NbdWriter(qmp, peer);
    void writer.#receive();
    return writer;
  }

  close(): void {
    this.#peer.close();
  }

  async request({ kind, offset, length, mark }: Operation): Promise<void> {
    if (kind === 'write') {
      const payload = noisyWords(offset, length, mark);
      return this.#ask({ type: NBD_CMD_WRITE, offset, payload });
    }
    if (kind === 'discard') await this.#ask({ type: NBD_CMD_TRIM, offset, length });
    const flags = kind === 'unmap' ? 0 : NO_HOLE;
    return this.#ask({ type: NBD_CMD_WRITE_ZEROES, offset, length, flags });
  }

  flush(): Promise<void> {
    return this.#ask({ type: NBD_CMD_FLUSH });
  }

  shrink(): Promise<void> {
    throw new Error('An export does not let its disk change in length');
  }

  async take(name: string): Promise<void> {
    await this.#qmp.execute('blockdev-snapshot-internal-sync', { device: 'n', name });
  }

  async drop(name: string): Promise<void> {
    await this.#qmp.execute('blockdev-snapshot-delete-internal-sync', { device: 'n', name });
  }

  async #ask(request: Request): Promise<void> {
    if (this.#peer.closed) throw new Error('The server is gone');
    const cookie = ++this.#cookie;
    return new Promise((resolve, reject) => {
      this.#waiting.set(cookie, { resolve, reject });
      this.#peer.send(encodeRequest(request, cookie));
    });
  }

  async #receive(): Promise<void> {
    for (;;) {
      const reply = await this.#peer.take(SIMPLE_REPLY, LONGEST_SILENCE_MS);
      if (reply === undefined) break;
      const cookie = reply.readBigUInt64BE(8);
      const code = reply.readUInt32BE(4);
      const waiting = this.#waiting.get(cookie);
      this.#waiting.delete(cookie);
      if (code === 0) waiting?.resolve();
      else waiting?.reject(new Error(`error ${code}`));
    }
    for (const { reject } of this.#waiting.values()) reject(new Error('The server is gone'));
  }
}
