import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { Socket } from 'node:net';
import { type ConnectionOptions, connect, TLSSocket as Secured, type TLSSocket } from 'node:tls';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { revocationList } from '../../../src/base/certificate.ts';
import type { TlsCredentials, TlsMaterial } from '../../../src/base/tls-credentials.ts';
import { WOULD_BLOCK } from '../../../src/net/byte-channel.ts';
import { SocketChannel } from '../../../src/net/socket-channel.ts';
import { TlsAcceptor, type TlsStart, tlsConnect } from '../../../src/net/tls.ts';
import type { TlsChannel } from '../../../src/net/tls-channel.ts';
import { derOf } from '../../../src/object/tls-creds-files.ts';
import { allocate } from '../../../src/sys/memory.ts';
import { Poller } from '../../../src/sys/poller.ts';
import { socketPair } from '../../../src/sys/socket.ts';
import { received, sent } from '../../helpers/byte-channel.ts';
import { fixture, OTHER_PSK, PSK } from '../../helpers/tls-files.ts';

const ca = fixture('ca-cert.pem');
const memory = allocate(64 * 1024);

let poller: Poller;
let ends: { close(): void }[];
let others: Socket[];

beforeEach(() => {
  poller = new Poller();
  ends = [];
  others = [];
});

afterEach(() => {
  for (const end of ends) end.close();
  for (const other of others) other.destroy();
  poller.close();
});

const x509: TlsMaterial = {
  kind: 'x509',
  ca,
  revoked: [],
  own: { cert: fixture('server-cert.pem'), key: fixture('server-key.pem') },
};
const psk: TlsMaterial = {
  kind: 'psk',
  keyOf: (user) => (user === 'alice' ? Buffer.from(PSK, 'hex') : undefined),
};

function credentials(
  material: TlsMaterial,
  more: Partial<TlsCredentials> = {},
): { -readonly [K in keyof TlsCredentials]: TlsCredentials[K] } {
  return { endpoint: 'server', verifyPeer: true, priority: undefined, material, ...more };
}

/** A connection: our end as a channel, and node's socket for the other. */
function connection(): { plain: SocketChannel; other: Socket } {
  const [mine, theirs] = socketPair();
  const plain = new SocketChannel(mine, poller);
  const other = new Socket({ fd: theirs });
  other.on('error', () => {});
  others.push(other);
  return { plain, other };
}

const client = (name = 'client'): ConnectionOptions => ({
  ca,
  cert: fixture(`${name}-cert.pem`),
  key: fixture('client-key.pem'),
  checkServerIdentity: () => undefined,
});
const pskClient = (identity: string, key: string): ConnectionOptions => ({
  ciphers: 'PSK:TLS_AES_128_GCM_SHA256',
  checkServerIdentity: () => undefined,
  pskCallback: () => ({ identity, psk: Buffer.from(key, 'hex') }),
});

/** Puts a client to an acceptor: our channel, theirs, and how it ended on our side. */
async function meet(
  server: TlsCredentials | TlsAcceptor,
  options: ConnectionOptions,
  start: Partial<TlsStart> = {},
): Promise<{ channel: TlsChannel; peer: TLSSocket; said: string }> {
  const { plain, other } = connection();
  const acceptor = server instanceof TlsAcceptor ? server : new TlsAcceptor(server);
  const channel = acceptor.accept(plain, { handshakeMs: 5000, ...start });
  ends.push(channel);
  const peer = connect({ ...options, socket: other });
  peer.on('error', () => {});
  others.push(peer);
  const said = await channel.ready.then(
    () => 'ready',
    (error: Error) => error.message,
  );
  return { channel, peer, said };
}

async function collected(peer: Socket): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of peer) parts.push(part as Buffer);
  return Buffer.concat(parts);
}

const openDescriptors = (): number => readdirSync('/proc/self/fd').length;

describe('TlsAcceptor', () => {
  it.each(['TLSv1.2', 'TLSv1.3'] as const)('speaks %s, and knows who is there', async (version) => {
    const { channel, peer, said } = await meet(credentials(x509), {
      ...client(),
      minVersion: version,
      maxVersion: version,
    });
    expect([said, peer.getProtocol()]).toEqual(['ready', version]);
    expect(channel.identity).toBe('C=GB,O=Example\\, Inc,CN=client1');
    peer.write('hello');
    expect((await received(channel, 5)).toString()).toBe('hello');
  });

  it.each([
    ['client-other', "The certificate hasn't got a known issuer"],
    ['client-expired', 'The certificate is not trusted'],
  ])('refuses %s', async (name, text) => {
    const { peer, said } = await meet(credentials(x509), client(name));
    expect(said).toBe(text);
    await once(peer, 'close');
  });

  it('refuses a peer without a certificate, unless it is not to be verified', async () => {
    const nobody = { ca, checkServerIdentity: () => undefined };
    expect((await meet(credentials(x509), nobody)).said).toBe(
      'Verify failed: No certificate was found.',
    );
    const lax = credentials(x509, { verifyPeer: false });
    expect((await meet(lax, nobody)).said).toBe('ready');
    expect((await meet(lax, client('client-other'))).said).toBe('ready');
  });

  it('takes a certificate for servers from a client, if the CA has issued it', async () => {
    expect((await meet(credentials(x509), client('client-server'))).said).toBe('ready');
    const elsewhere = { ...x509, ca: fixture('other-cert.pem') };
    expect((await meet(credentials(elsewhere), client('client-server'))).said).not.toBe('ready');
  });

  it('refuses revoked certificates, and only those', async () => {
    const listed = credentials({
      ...x509,
      revoked: [revocationList(derOf(fixture('ca-crl.pem')))],
    });
    expect((await meet(listed, client('client-revoked'))).said).toBe(
      'The certificate has been revoked',
    );
    expect((await meet(listed, client())).said).toBe('ready');
    expect((await meet(credentials(x509), client('client-revoked'))).said).toBe('ready');
  });

  it('asks whether the name may in', async () => {
    const asked: string[] = [];
    const authorize = (name: string) => {
      asked.push(name);
      return name.endsWith('CN=client1');
    };
    expect((await meet(credentials(x509), client(), { authorize })).said).toBe('ready');
    expect((await meet(credentials(x509), client('client-denied'), { authorize })).said).toBe(
      'TLS x509 authz check for C=GB,O=Example\\, Inc,CN=nobody is denied',
    );
    expect(asked).toHaveLength(2);
    const broken = () => {
      throw new Error('Cannot find QAuthZ object ID az');
    };
    expect((await meet(credentials(x509), client(), { authorize: broken })).said).toBe(
      'Cannot find QAuthZ object ID az',
    );
  });

  it('knows users by their keys', async () => {
    const server = credentials(psk);
    const alice = await meet(server, pskClient('alice', PSK));
    expect([alice.said, alice.channel.identity]).toEqual(['ready', 'alice']);
    const wrong = 'TLS handshake failed: An illegal parameter has been received.';
    expect((await meet(server, pskClient('alice', OTHER_PSK))).said).toBe(wrong);
    expect((await meet(server, pskClient('bob', PSK))).said).toBe(wrong);
    expect((await meet(server, client())).said).toBe(
      'TLS handshake failed: Insufficient credentials for that request.',
    );
  });

  it('does without anybody knowing anybody', async () => {
    const anonymous = { ciphers: 'ADH:@SECLEVEL=0', maxVersion: 'TLSv1.2' } as const;
    const { peer, said } = await meet(credentials({ kind: 'anon' }), {
      ...anonymous,
      checkServerIdentity: () => undefined,
      rejectUnauthorized: false,
    });
    expect([said, peer.getCipher().name.startsWith('ADH-')]).toEqual(['ready', true]);
  });

  it('says that a priority string is no good before it touches the connection', () => {
    const { plain } = connection();
    ends.push(plain);
    const acceptor = new TlsAcceptor(credentials(x509, { priority: 'bogus' }));
    expect(() => acceptor.accept(plain, { handshakeMs: 0 })).toThrow(
      'Cannot set default TLS session priority bogus: The request is invalid.',
    );
    const pskAcceptor = new TlsAcceptor(credentials(psk, { priority: 'bogus' }));
    expect(() => pskAcceptor.accept(plain, { handshakeMs: 0 })).toThrow(
      'Unable to set TLS session priority bogus:+ECDHE-PSK:+DHE-PSK:+PSK: The request is invalid.',
    );
    expect(plain.detach()).toBeGreaterThan(0);
  });

  it('takes what came before for the beginning of the handshake', async () => {
    const { plain, other } = connection();
    const { plain: front, other: back } = connection();
    // The client's first flight is read off the wire, as a server does that reads ahead.
    const peer = connect({ ...client(), socket: back });
    peer.on('error', () => {});
    others.push(peer);
    const flight = await new Promise<Buffer>((resolve) => {
      front.onReadable = () => {
        const count = front.receive(memory, 0, memory.bytes.length);
        front.wantReadable(false);
        resolve(Buffer.from(memory.bytes.subarray(0, count)));
      };
      front.wantReadable(true);
    });
    plain.close();
    other.destroy();
    const acceptor = new TlsAcceptor(credentials(x509));
    const channel = acceptor.accept(front, { received: flight, handshakeMs: 5000 });
    ends.push(channel);
    await channel.ready;
    expect(channel.identity).toContain('client1');
  });

  it('refuses anything else that comes in the clear', async () => {
    const { plain, other } = connection();
    const channel = new TlsAcceptor(credentials(x509)).accept(plain, {
      received: Buffer.from('IHAVEOPT\0\0\0\x03\0\0\0\0'),
      handshakeMs: 5000,
    });
    await expect(channel.ready).rejects.toThrow(
      'TLS handshake failed: An unexpected TLS packet was received.',
    );
    other.resume();
    await once(other, 'close');
  });

  it('gives up on a peer that leaves, or that does nothing', async () => {
    const gone = connection();
    const acceptor = new TlsAcceptor(credentials(x509));
    const left = acceptor.accept(gone.plain, { handshakeMs: 5000 });
    gone.other.end();
    await expect(left.ready).rejects.toThrow(
      'TLS handshake failed: The TLS connection was non-properly terminated.',
    );
    const slow = acceptor.accept(connection().plain, { handshakeMs: 20 });
    await expect(slow.ready).rejects.toThrow('TLS handshake failed: The operation timed out');
  });

  it('uses new certificates for new connections, and leaves the old alone', async () => {
    const creds = credentials(x509);
    const acceptor = new TlsAcceptor(creds);
    const old = await meet(acceptor, client());
    const next = { cert: fixture('server-next-cert.pem'), key: fixture('server-key.pem') };
    creds.material = { ...x509, own: next };
    const fresh = await meet(acceptor, client());
    expect(old.peer.getPeerCertificate().subject.CN).toBe('localhost');
    expect(fresh.peer.getPeerCertificate().subject.CN).toBe('next.example');
    old.peer.write('still here');
    expect((await received(old.channel, 10)).toString()).toBe('still here');
  });

  it('resumes no session: every connection shows its certificate', async () => {
    const acceptor = new TlsAcceptor(credentials(x509));
    const sessions: Buffer[] = [];
    const first = await meet(acceptor, client());
    first.peer.on('session', (session) => sessions.push(session));
    await sent(first.channel, Buffer.from('x'));
    await once(first.peer, 'data');
    const session = first.peer.getSession();
    const again = await meet(acceptor, {
      ...client(),
      ...(session === undefined ? {} : { session: sessions[0] ?? session }),
    });
    expect([again.said, again.peer.isSessionReused()]).toEqual(['ready', false]);
  });
});

describe('TlsChannel', () => {
  const pattern = Buffer.alloc(3_000_000, Buffer.from('0123456789abcdefghi'));

  it('carries megabytes both ways', async () => {
    const { channel, peer } = await meet(credentials(x509), client());
    const theirs = collected(peer);
    peer.write(pattern);
    const [mine] = await Promise.all([received(channel, pattern.length), sent(channel, pattern)]);
    channel.close();
    expect(mine.equals(pattern)).toBe(true);
    expect((await theirs).equals(pattern)).toBe(true);
  });

  it('takes no more than it can hold for a peer that does not read', async () => {
    const { channel, peer } = await meet(credentials(x509), client());
    peer.pause();
    let taken = 0;
    for (;;) {
      const count = channel.send(memory, 0, memory.bytes.length);
      if (count === WOULD_BLOCK) break;
      taken += count;
    }
    expect(taken).toBeLessThan(1024 * 1024);
    peer.resume();
    await new Promise<void>((resolve) => {
      channel.onWritable = resolve;
      channel.wantWritable(true);
    });
  });

  it('receives no more than it can hold when nobody takes it', async () => {
    const { channel, peer } = await meet(credentials(x509), client());
    channel.wantReadable(false);
    peer.write(Buffer.alloc(8 * 1024 * 1024));
    await expect.poll(() => peer.writableLength).toBeGreaterThan(4 * 1024 * 1024);
    expect((await received(channel, 8 * 1024 * 1024)).length).toBe(8 * 1024 * 1024);
  });

  it('tells again of what is there, as a socket does', async () => {
    const { channel, peer } = await meet(credentials(x509), client());
    peer.write('ab');
    expect((await received(channel, 1)).toString()).toBe('a');
    expect((await received(channel, 1)).toString()).toBe('b');
  });

  it('delivers what it took before it was closed', async () => {
    const { channel, peer } = await meet(credentials(x509), client());
    const theirs = collected(peer);
    memory.bytes.fill(7);
    expect(channel.send(memory, 0, 60_000)).toBe(60_000);
    channel.close();
    expect((await theirs).length).toBe(60_000);
  });

  it('answers a peer that says it sends no more', async () => {
    const { channel, peer } = await meet(credentials(x509), client());
    peer.end('last');
    expect((await received(channel, 100)).toString()).toBe('last');
    expect(channel.receive(memory, 0, 10)).toBe(0);
    await sent(channel, Buffer.from('answer'));
    expect((await once(peer, 'data'))[0]).toEqual(Buffer.from('answer'));
  });

  it('reports broken records as an error', async () => {
    const { plain, other } = connection();
    const channel = new TlsAcceptor(credentials(x509)).accept(plain, { handshakeMs: 5000 });
    ends.push(channel);
    const peer = connect({ ...client(), socket: other });
    peer.on('error', () => {});
    await channel.ready;
    // Past the TLS layer, straight to the wire.
    other.write(Buffer.from('170303002000', 'hex'));
    other.write(Buffer.alloc(40, 1));
    await expect
      .poll(() => {
        try {
          return channel.receive(memory, 0, 10);
        } catch (error) {
          return (error as Error).message;
        }
      })
      .toContain('Input/output error');
  });

  it('gives every descriptor back, whatever became of it', async () => {
    const before = openDescriptors();
    for (const name of ['client', 'client-other', 'client']) {
      const { channel, peer } = await meet(credentials(x509), client(name));
      channel.close();
      peer.destroy();
    }
    const { plain } = connection();
    new TlsAcceptor(credentials(x509)).accept(plain, { handshakeMs: 0 }).close();
    for (const other of others) other.destroy();
    await expect.poll(openDescriptors).toBe(before);
  });
});

describe('tlsConnect', () => {
  const own = { cert: fixture('client-cert.pem'), key: fixture('client-key.pem') };
  const asClient = (more: Partial<TlsCredentials> = {}) =>
    credentials({ kind: 'x509', ca, own, revoked: [] }, { endpoint: 'client', ...more });

  async function call(creds: TlsCredentials, hostname?: string): Promise<string> {
    const { plain, other } = connection();
    const server = new Secured(other, {
      isServer: true,
      ca,
      cert: fixture('server-cert.pem'),
      key: fixture('server-key.pem'),
      requestCert: true,
      rejectUnauthorized: false,
    });
    server.on('error', () => {});
    others.push(server);
    const start = { handshakeMs: 5000, ...(hostname === undefined ? {} : { hostname }) };
    const channel = tlsConnect(plain, creds, start);
    ends.push(channel);
    return channel.ready.then(
      () => `ready: ${channel.identity}`,
      (error: Error) => error.message,
    );
  }

  it('knows the server by the name in its certificate', async () => {
    expect(await call(asClient(), 'localhost')).toBe('ready: O=Example,CN=localhost');
    expect(await call(asClient(), '127.0.0.1')).toBe('ready: O=Example,CN=localhost');
    expect(await call(asClient(), 'elsewhere')).toBe(
      'Certificate does not match the hostname elsewhere',
    );
    expect(await call(asClient())).toBe('No hostname for certificate validation');
  });

  it('refuses a server of another CA, unless it is not to be verified', async () => {
    const stranger: TlsMaterial = { kind: 'x509', ca: fixture('other-cert.pem'), own, revoked: [] };
    const creds = asClient({ material: stranger });
    expect(await call(creds, 'localhost')).toBe("The certificate hasn't got a known issuer");
    expect(await call({ ...creds, verifyPeer: false }, 'localhost')).toBe('ready: undefined');
  });
});
