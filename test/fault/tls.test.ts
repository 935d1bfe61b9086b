// TLS handshakes that are cut, broken or left lying: each ends by itself, nobody else notices, and nothing is left of it.

import { readdirSync, readlinkSync } from 'node:fs';
import { Duplex } from 'node:stream';
import { connect } from 'node:tls';
import { afterEach, describe, expect, it } from 'vitest';
import { DaemonProcess } from '../conformance/daemon-process.ts';
import { encodeRequest, NbdPeer } from '../conformance/nbd-peer.ts';
import { ours } from '../conformance/side.ts';
import {
  goPayload,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_OPT_GO,
  NBD_OPT_LIST,
  NBD_OPT_STARTTLS,
} from '../conformance/wire-steps.ts';
import { clientFiles, contentOf, fixture, serverFiles } from '../helpers/tls-files.ts';

const MIB = 1024 * 1024;
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

async function started({ limit = 30 } = {}): Promise<DaemonProcess> {
  const files = Object.entries({ ...serverFiles, ...clientFiles() });
  daemon = new DaemonProcess(ours(), {
    files: files.map(([name, source]) => ({ name, text: contentOf(source) })),
    arguments: [
      '--object',
      'tls-creds-x509,id=t,dir=@DIR@,endpoint=server',
      '--blockdev',
      'null-co,node-name=n,size=67108864,read-zeroes=on',
      '--nbd-server',
      `addr.type=unix,addr.path=@DIR@/nbd.sock,tls-creds=t,max-connections=0,handshake-max-seconds=${limit}`,
      '--export',
      'nbd,id=e,node-name=n,writable=on',
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

async function secured(server: DaemonProcess): Promise<NbdPeer> {
  const peer = await greeted(server);
  peer.sendOption(NBD_OPT_STARTTLS, Buffer.alloc(0));
  await peer.optionReplies();
  expect(await peer.startTls(identity)).toBe('tls TLSv1.3');
  return peer;
}

/** A client that does everything right gets what it asks for. */
async function serves(server: DaemonProcess): Promise<void> {
  const peer = await secured(server);
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
    await expect.poll(() => sockets(server)).toBeLessThanOrEqual(before);
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
    await expect.poll(() => sockets(server)).toBeLessThanOrEqual(before);
  });

  it('that go nowhere are ended after a while, and keep nobody waiting', async () => {
    const server = await started({ limit: 8 });
    const before = sockets(server);
    await serves(server);
    const hello = await clientHello();
    const idle = await Promise.all(Array.from({ length: 100 }, async () => greeted(server)));
    for (const peer of idle) peer.send(Buffer.concat([STARTTLS, hello]));
    await serves(server);
    expect(sockets(server)).toBeGreaterThanOrEqual(before + 100);
    await expect.poll(() => sockets(server)).toBeLessThanOrEqual(before);
    for (const peer of idle) peer.close();
  });
});

/** Kilobytes that a connection under TLS may hold: what one in the clear may, and what waits to be encrypted or was decrypted. */
const CONNECTION_KIB = 35 * 1024;
/** Kilobytes by which the daemon may grow whatever its connections hold. */
const GROWTH_KIB = 48 * 1024;

describe('memory of connections under TLS', () => {
  const count = 4;
  const attacks: Readonly<Record<string, (peer: NbdPeer) => void>> = {
    'ask for 32 MiB a hundred times and read nothing'(peer) {
      peer.pause();
      for (let at = 0; at < 100; at++) {
        peer.send(encodeRequest({ type: NBD_CMD_READ, length: 32 * MIB }, BigInt(at)));
      }
    },
    'write 32 MiB but for the last byte'(peer) {
      const write = { type: NBD_CMD_WRITE, payload: Buffer.alloc(32 * MIB) };
      peer.send(encodeRequest(write, 1n).subarray(0, -1));
    },
  };

  it.each(Object.entries(attacks))('is bounded when peers %s', async (_what, attack) => {
    const server = await started();
    const before = sockets(server);
    await serves(server);
    const resident = server.residentKilobytes();
    const peers: NbdPeer[] = [];
    for (let at = 0; at < count; at++) {
      const peer = await secured(server);
      peer.sendOption(NBD_OPT_GO, goPayload('n', []));
      expect((await peer.optionReplies()).at(-1)).toBe('option 7 reply 0x1');
      peers.push(peer);
    }
    for (const peer of peers) attack(peer);
    // Until they hold something, and then what they can.
    const grown = (): number => server.residentKilobytes() - resident;
    await expect.poll(grown).toBeGreaterThan(count * 8 * 1024);
    for (let most = 0; grown() > most + 512; ) {
      most = grown();
      await serves(server);
    }
    expect(grown()).toBeLessThan(count * CONNECTION_KIB + GROWTH_KIB);
    for (const peer of peers) peer.close();
    await expect.poll(() => sockets(server)).toBeLessThanOrEqual(before);
    await expect.poll(grown).toBeLessThan(2 * GROWTH_KIB);
  });
});
