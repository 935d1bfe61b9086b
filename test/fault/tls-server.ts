// An NBD server that wants TLS, for peers that do as they like with it, and clients of it that do everything right.

import { readdirSync, readlinkSync } from 'node:fs';
import { Duplex } from 'node:stream';
import { connect } from 'node:tls';
import { expect, onTestFinished } from 'vitest';
import { DaemonProcess } from '../conformance/daemon-process.ts';
import { NbdPeer } from '../conformance/nbd-peer.ts';
import { ours } from '../conformance/side.ts';
import {
  goPayload,
  NBD_OPT_GO,
  NBD_OPT_LIST,
  NBD_OPT_STARTTLS,
} from '../conformance/wire-steps.ts';
import { clientFiles, contentOf, fixture, serverFiles } from '../helpers/tls-files.ts';

/** The option that asks for TLS. */
export const STARTTLS = Buffer.from('IHAVEOPT\0\0\0\x05\0\0\0\0', 'latin1');

const identity = {
  ca: fixture('ca-cert.pem'),
  cert: fixture('client-cert.pem'),
  key: fixture('client-key.pem'),
  checkServerIdentity: () => undefined,
};

export interface Limits {
  /** handshake-max-seconds. */
  readonly seconds?: number;
  /** max-connections; any number by default. */
  readonly connections?: number;
}

/** A daemon with a writable export `n` that reads as zeroes. It ends with the test, and must do so in order. */
export async function startTlsServer({ seconds = 30, connections = 0 }: Limits = {}) {
  const files = Object.entries({ ...serverFiles, ...clientFiles() });
  const limits = `max-connections=${connections},handshake-max-seconds=${seconds}`;
  const daemon = new DaemonProcess(ours(), {
    files: files.map(([name, source]) => ({ name, text: contentOf(source) })),
    arguments: [
      '--object',
      'tls-creds-x509,id=t,dir=@DIR@,endpoint=server',
      '--blockdev',
      'null-co,node-name=n,size=67108864,read-zeroes=on',
      '--nbd-server',
      `addr.type=unix,addr.path=@DIR@/nbd.sock,tls-creds=t,${limits}`,
      '--export',
      'nbd,id=e,node-name=n,writable=on',
    ],
  });
  onTestFinished(async () => {
    expect(await daemon.stop()).toBe('<exit 0>');
  });
  await daemon.stdio?.negotiate();
  return new TlsServer(daemon);
}

export class TlsServer {
  readonly daemon: DaemonProcess;

  constructor(daemon: DaemonProcess) {
    this.daemon = daemon;
  }

  /** A peer that has asked for nothing yet. */
  async greeted(): Promise<NbdPeer> {
    const peer = await NbdPeer.connect(this.daemon.path('nbd.sock'));
    await peer.greet(3);
    return peer;
  }

  async secured(version: 'TLSv1.2' | 'TLSv1.3' = 'TLSv1.3'): Promise<NbdPeer> {
    const peer = await this.greeted();
    peer.sendOption(NBD_OPT_STARTTLS, Buffer.alloc(0));
    await peer.optionReplies();
    expect(await peer.startTls({ ...identity, maxVersion: version })).toBe(`tls ${version}`);
    return peer;
  }

  /** A client that may send requests. */
  async entered(): Promise<NbdPeer> {
    const peer = await this.secured();
    peer.sendOption(NBD_OPT_GO, goPayload('n', []));
    expect((await peer.optionReplies()).at(-1)).toBe('option 7 reply 0x1');
    return peer;
  }

  /** A client that does everything right gets what it asks for. */
  async serves(): Promise<void> {
    const peer = await this.secured();
    peer.sendOption(NBD_OPT_LIST, Buffer.alloc(0));
    expect(await peer.optionReplies()).toHaveLength(2);
    peer.close();
  }

  /** The sockets that the daemon has open: its own, and one for each client that is not gone yet. */
  sockets(): number {
    const folder = `/proc/${this.daemon.pid}/fd`;
    return readdirSync(folder).filter((name) => isSocket(`${folder}/${name}`)).length;
  }

  /** Kilobytes resident now. */
  resident(): number {
    return this.daemon.residentKilobytes();
  }
}

function isSocket(link: string): boolean {
  try {
    return readlinkSync(link).startsWith('socket:');
  } catch {
    return false;
  }
}

/** What a client sends first under TLS. */
export async function clientHello(): Promise<Buffer> {
  return new Promise((resolve) => {
    const wire = new Duplex({
      read() {},
      write(chunk: Buffer, _encoding, done) {
        resolve(chunk);
        done();
      },
    });
    connect({ ...identity, socket: wire }).on('error', () => {});
  });
}
