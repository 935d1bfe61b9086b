import { readdirSync, readlinkSync } from 'node:fs';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { TlsCredentials, TlsMaterial } from '../../../src/base/tls-credentials.ts';
import { SocketChannel } from '../../../src/net/socket-channel.ts';
import { TlsAcceptor, tlsConnect } from '../../../src/net/tls.ts';
import type { TlsChannel } from '../../../src/net/tls-channel.ts';
import { Poller } from '../../../src/sys/poller.ts';
import { socketPair } from '../../../src/sys/socket.ts';
import { received, sent } from '../../helpers/byte-channel.ts';
import { fixture, PSK } from '../../helpers/tls-files.ts';

const ca = fixture('ca-cert.pem');
const certificates = (end: 'client' | 'server'): TlsMaterial => ({
  kind: 'x509',
  ca,
  revoked: [],
  own: { cert: fixture(`${end}-cert.pem`), key: fixture(`${end}-key.pem`) },
});
const keys: TlsMaterial = {
  kind: 'psk',
  username: 'alice',
  keyOf: () => Buffer.from(PSK, 'hex'),
};

let atFirst: number;
let poller: Poller;
let ends: TlsChannel[];

beforeAll(() => {
  atFirst = openSockets();
});

beforeEach(() => {
  poller = new Poller();
  ends = [];
});

afterEach(async () => {
  for (const end of ends) end.close();
  // Every descriptor comes back, whatever became of the session.
  await expect.poll(openSockets).toBeLessThanOrEqual(atFirst);
  poller.close();
});

function pair(): readonly [SocketChannel, SocketChannel] {
  const [one, other] = socketPair();
  return [new SocketChannel(one, poller), new SocketChannel(other, poller)];
}

const credentials = (endpoint: 'client' | 'server', material: TlsMaterial): TlsCredentials => ({
  endpoint,
  verifyPeer: true,
  priority: undefined,
  material,
});

/** Both ends of a session. */
function session(server = certificates('server'), client = certificates('client')) {
  const [ours, theirs] = pair();
  const accepted = new TlsAcceptor(credentials('server', server)).accept(ours, {
    handshakeMs: 25_000,
  });
  const connected = tlsConnect(theirs, credentials('client', client), {
    handshakeMs: 25_000,
    hostname: 'localhost',
  });
  ends.push(accepted, connected);
  return { accepted, connected };
}

/** Sockets that are open in this process, those of other tests included. */
function openSockets(): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:');
    } catch {
      // The one that the directory was read with.
      return false;
    }
  }).length;
}

describe('TLS between two ends of ours', () => {
  it('knows both ends, and carries megabytes both ways', async () => {
    const { accepted, connected } = session();
    await Promise.all([accepted.ready, connected.ready]);
    expect([accepted.identity, connected.identity]).toEqual([
      'C=GB,O=Example\\, Inc,CN=client1',
      'O=Example,CN=localhost',
    ]);
    const pattern = Buffer.alloc(3_000_000, Buffer.from('0123456789abcdefghi'));
    const [there, back] = await Promise.all([
      received(accepted, pattern.length),
      received(connected, pattern.length),
      sent(connected, pattern),
      sent(accepted, pattern),
    ]);
    expect([there.equals(pattern), back.equals(pattern)]).toEqual([true, true]);
  });

  it('knows users by their keys', async () => {
    const { accepted, connected } = session(keys, keys);
    await Promise.all([accepted.ready, connected.ready]);
    expect(accepted.identity).toBe('alice');
  });

  it('tells both ends why it does not come about', async () => {
    const stranger: TlsMaterial = { kind: 'x509', ca, revoked: [] };
    const { accepted } = session(certificates('server'), stranger);
    await expect(accepted.ready).rejects.toThrow('Verify failed: No certificate was found.');
  });

  it('delivers what was taken before it was closed, and then the end', async () => {
    const { accepted, connected } = session();
    await Promise.all([accepted.ready, connected.ready]);
    await sent(accepted, Buffer.from('last words'));
    accepted.close();
    expect((await received(connected, 100)).toString()).toBe('last words');
  });

  it('ends with either end, and with a peer that does nothing', async () => {
    const { accepted, connected } = session();
    await Promise.all([accepted.ready, connected.ready]);
    accepted.close();
    connected.close();
    const cut = session();
    cut.accepted.close();
    await expect(cut.connected.ready).rejects.toThrow('TLS handshake failed');
    const [plain, other] = pair();
    const silent = new TlsAcceptor(credentials('server', keys)).accept(plain, { handshakeMs: 20 });
    await expect(silent.ready).rejects.toThrow('TLS handshake failed: The operation timed out');
    other.close();
  });
});
