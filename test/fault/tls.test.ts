// TLS handshakes that are cut, broken or left lying: each ends by itself, nobody else notices, and nothing is left of it.

import { readdirSync, readlinkSync } from 'node:fs';
import { Duplex } from 'node:stream';
import { connect } from 'node:tls';
import { afterEach, describe, expect, it } from 'vitest';
import { DaemonProcess } from '../conformance/daemon-process.ts';
import { NbdPeer } from '../conformance/nbd-peer.ts';
import { ours } from '../conformance/side.ts';
import { NBD_OPT_LIST, NBD_OPT_STARTTLS } from '../conformance/wire-steps.ts';
import { clientFiles, contentOf, fixture, serverFiles } from '../helpers/tls-files.ts';

const STARTTLS = Buffer.from('IHAVEOPT\0\0\0\x05\0\0\0\0', 'latin1');
const identity = {
  ca: fixture('ca-cert.pem'),
  cert: fixture('client-cert.pem'),
  key: fixture('client-key.pem'),
  checkServerIdentity: () => undefined,
};

let daemon: DaemonProcess | undefined;
afterEach(async () => {
  expect((await daemon?.stop()) ?? '<exit 0>').toBe('<exit 0>');
  daemon = undefined;
});

async function started({ limit = 2 } = {}): Promise<DaemonProcess> {
  const files = Object.entries({ ...serverFiles, ...clientFiles() });
  daemon = new DaemonProcess(ours(), {
    files: files.map(([name, source]) => ({ name, text: contentOf(source) })),
    arguments: [
      '--object',
      'tls-creds-x509,id=t,dir=@DIR@,endpoint=server',
      '--blockdev',
      'null-co,node-name=n,size=65536,read-zeroes=on',
      '--nbd-server',
      `addr.type=unix,addr.path=@DIR@/nbd.sock,tls-creds=t,max-connections=0,handshake-max-seconds=${limit}`,
      '--export',
      'nbd,id=e,node-name=n',
    ],
  });
  await daemon.stdio?.negotiate();
  return daemon;
}

/** What a client sends first. */
async function clientHello(): Promise<Buffer> {
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

async function greeted(server: DaemonProcess): Promise<NbdPeer> {
  const peer = await NbdPeer.connect(server.path('nbd.sock'));
  await peer.greet(3);
  return peer;
}

/** A client that does everything right gets what it asks for. */
async function serves(server: DaemonProcess): Promise<void> {
  const peer = await greeted(server);
  peer.sendOption(NBD_OPT_STARTTLS, Buffer.alloc(0));
  await peer.optionReplies();
  expect(await peer.startTls(identity)).toBe('tls TLSv1.3');
  peer.sendOption(NBD_OPT_LIST, Buffer.alloc(0));
  expect(await peer.optionReplies()).toHaveLength(2);
  peer.close();
}

/** The sockets that the daemon has open: its own, and one for each client that is not gone yet. */
function sockets(server: DaemonProcess): number {
  const folder = `/proc/${server.pid}/fd`;
  return readdirSync(folder).filter((name) => isSocket(`${folder}/${name}`)).length;
}

function isSocket(link: string): boolean {
  try {
    return readlinkSync(link).startsWith('socket:');
  } catch {
    return false;
  }
}

describe('handshakes of TLS', () => {
  it('may end at any byte', async () => {
    const server = await started();
    const before = sockets(server);
    await serves(server);
    const hello = await clientHello();
    for (let cut = 0; cut <= hello.length; cut += 7) {
      const peer = await greeted(server);
      peer.send(Buffer.concat([STARTTLS, hello.subarray(0, cut)]));
      if (cut % 2 === 0) await peer.optionReplies();
      peer.close();
    }
    await serves(server);
    await expect.poll(() => sockets(server), { timeout: 20_000 }).toBeLessThanOrEqual(before);
  });

  it('may be broken at any byte', async () => {
    const server = await started();
    const before = sockets(server);
    await serves(server);
    const hello = await clientHello();
    for (let at = 0; at < hello.length; at += 5) {
      const broken = Buffer.from(hello);
      broken[at] = (broken[at] ?? 0) ^ 0xff;
      const peer = await greeted(server);
      peer.send(Buffer.concat([STARTTLS, broken]));
      await peer.optionReplies();
      peer.close();
    }
    await serves(server);
    await expect.poll(() => sockets(server), { timeout: 20_000 }).toBeLessThanOrEqual(before);
  });

  it('that go nowhere are ended after a while, and keep nobody waiting', async () => {
    const server = await started({ limit: 5 });
    const before = sockets(server);
    await serves(server);
    const hello = await clientHello();
    const idle = await Promise.all(Array.from({ length: 100 }, async () => greeted(server)));
    for (const peer of idle) peer.send(Buffer.concat([STARTTLS, hello]));
    await serves(server);
    expect(sockets(server)).toBeGreaterThanOrEqual(before + 100);
    await expect.poll(() => sockets(server), { timeout: 20_000 }).toBeLessThanOrEqual(before);
    for (const peer of idle) peer.close();
  });
});
