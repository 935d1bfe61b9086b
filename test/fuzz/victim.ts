// The daemon that the fuzz tests torment, and what must hold after each round: it lives, answers a fresh client soon, keeps
// its memory within bounds and its descriptors closed.

import { expect } from 'vitest';
import { DaemonProcess, waitUntil } from '../conformance/daemon-process.ts';
import { NbdPeer } from '../conformance/nbd-peer.ts';
import type { QmpLink } from '../conformance/qmp-link.ts';
import { ours } from '../conformance/side.ts';
import { go, NBD_CMD_READ } from '../conformance/wire-steps.ts';

/** What the daemon may have in memory, whatever its peers do. */
const RESIDENT_LIMIT_KIB = 400 * 1024;
const ANSWER_LIMIT_MS = 30_000;
const MIB = 1024 * 1024;

export class Victim {
  readonly daemon: DaemonProcess;
  readonly #qmp: QmpLink;
  readonly #descriptors: number;

  private constructor(daemon: DaemonProcess, qmp: QmpLink) {
    this.daemon = daemon;
    this.#qmp = qmp;
    this.#descriptors = daemon.openDescriptors();
  }

  static async start(): Promise<Victim> {
    const daemon = new DaemonProcess(ours(), {
      files: [{ name: 'a.img', length: 4 * MIB, fill: [[0, MIB, 0x61]] }],
      arguments: [
        '--chardev',
        'socket,id=fuzz,path=@DIR@/fuzz.sock,server=on,wait=off',
        '--monitor',
        'fuzz',
        '--blockdev',
        'file,node-name=f,filename=a.img',
        '--blockdev',
        'null-co,node-name=n,size=1048576',
        '--nbd-server',
        'addr.type=unix,addr.path=@DIR@/nbd.sock',
        '--export',
        'nbd,id=e,node-name=f,name=ex,writable=on',
        '--export',
        'nbd,id=ro,node-name=f,name=ro,description=d',
      ],
    });
    const qmp = daemon.stdio;
    if (qmp === undefined) throw new Error('no monitor on stdio');
    await qmp.negotiate();
    return new Victim(daemon, qmp);
  }

  get socket(): string {
    return this.daemon.path('nbd.sock');
  }

  /** Why the daemon is not well, or undefined. */
  async ailment(): Promise<string | undefined> {
    if (this.daemon.child.exitCode !== null || this.daemon.child.signalCode !== null) {
      return `it is gone: ${this.daemon.stderr.slice(-2000)}`;
    }
    const answers = await this.#qmp.command('{"execute":"query-version"}', ANSWER_LIMIT_MS);
    if (answers.some((line) => line.startsWith('<'))) return `its monitor says ${answers.join()}`;
    const peer = await NbdPeer.connect(this.socket);
    try {
      await peer.greet(3);
      const step = go('c', 'ex');
      if (step.do === 'option') peer.sendOption(step.option, step.payload);
      const replies = await peer.optionReplies();
      if (replies.at(-1) !== 'option 7 reply 0x1') return `GO is answered ${replies.join()}`;
      const read = await peer.requests([{ type: NBD_CMD_READ, offset: 2 * MIB, length: 4 }]);
      if (!read[0]?.startsWith('simple error 0')) return `a read is answered ${read.join()}`;
    } finally {
      peer.close();
    }
    const resident = this.daemon.residentKilobytes();
    return resident > RESIDENT_LIMIT_KIB ? `${resident} KiB are resident` : undefined;
  }

  /** Ends it, checking that every connection's descriptor was given back. */
  async stop(): Promise<void> {
    expect(await this.ailment()).toBeUndefined();
    const settled = async (): Promise<void> =>
      waitUntil(() => this.daemon.openDescriptors() <= this.#descriptors, 30_000);
    await settled().catch(() => {
      expect(this.daemon.openDescriptors()).toBeLessThanOrEqual(this.#descriptors);
    });
    expect(this.daemon.stderr).not.toMatch(/\bat .*:\d+:\d+\)|unhandled|uncaught|Assertion/i);
    expect(await this.daemon.stop()).toBe('<exit 0>');
  }
}
