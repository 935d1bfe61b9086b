// A session against a client that is OpenSSL itself, bare: it can say what no honest client would.

import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import type { TlsCredentials } from '../../../src/base/tls-credentials.ts';
import { WOULD_BLOCK } from '../../../src/net/byte-channel.ts';
import { TlsContext } from '../../../src/net/tls-context.ts';
import { TlsSession } from '../../../src/net/tls-session.ts';
import { addressOf, bindLazily } from '../../../src/sys/libc.ts';
import { allocate } from '../../../src/sys/memory.ts';
import { addressIn, openssl } from '../../../src/sys/openssl.ts';
import { close, receive, send, socketPair } from '../../../src/sys/socket.ts';
import { bufferOf } from '../../helpers/qcow2-disk.ts';
import { fixture } from '../../helpers/tls-files.ts';

const more = bindLazily({ SSL_key_update: 'int SSL_key_update(uintptr_t, int)' } as const);
const SSL_KEY_UPDATE_REQUESTED = 1;
/** Bytes between the client and its end of the socket. */
const PIPE_BYTES = 64 * 1024;

const credentials = (endpoint: 'client' | 'server'): TlsCredentials => ({
  endpoint,
  verifyPeer: true,
  priority: undefined,
  material: {
    kind: 'x509',
    ca: fixture('ca-cert.pem'),
    revoked: [],
    own: { cert: fixture(`${endpoint}-cert.pem`), key: fixture(`${endpoint}-key.pem`) },
  },
});

/** OpenSSL's client, whose bytes pass only when they are told to. */
class BareClient {
  readonly #fd: number;
  readonly #context = new TlsContext(credentials('client'));
  readonly #ssl = openssl.SSL_new(this.#context.address);
  readonly #wire: number;
  readonly #place = new Uint32Array(2);

  constructor(fd: number) {
    this.#fd = fd;
    const inner = new Uint32Array(2);
    openssl.BIO_new_bio_pair(inner, PIPE_BYTES, this.#place, PIPE_BYTES);
    this.#wire = addressIn(this.#place);
    openssl.SSL_set_bio(this.#ssl, addressIn(inner), addressIn(inner));
    openssl.SSL_set_connect_state(this.#ssl);
  }

  handshake(): boolean {
    this.#receive();
    const done = openssl.SSL_do_handshake(this.#ssl) === 1;
    this.#push();
    return done;
  }

  /** Asks for new keys, which is no data, so many times. */
  askForKeys(times: number): void {
    for (let count = 0; count < times; count++) {
      more.SSL_key_update(this.#ssl, SSL_KEY_UPDATE_REQUESTED);
      expect(openssl.SSL_do_handshake(this.#ssl)).toBe(1);
    }
    this.#push();
  }

  say(text: string): void {
    const bytes = Buffer.from(text);
    expect(openssl.SSL_write(this.#ssl, addressOf(bytes), bytes.length)).toBe(bytes.length);
    this.#push();
  }

  free(): void {
    openssl.SSL_free(this.#ssl);
    openssl.BIO_free(this.#wire);
    this.#context.free();
  }

  #push(): void {
    for (;;) {
      const length = openssl.BIO_nread0(this.#wire, this.#place);
      if (length <= 0) return;
      const sent = send(this.#fd, addressIn(this.#place), length);
      expect(sent).toBe(length);
      openssl.BIO_nread(this.#wire, this.#place, sent);
    }
  }

  #receive(): void {
    const room = openssl.BIO_nwrite0(this.#wire, this.#place);
    const received = receive(this.#fd, addressIn(this.#place), room);
    if (received > 0) openssl.BIO_nwrite(this.#wire, this.#place, received);
  }
}

const memory = allocate(64 * 1024);
let context: TlsContext;
let session: TlsSession;
let client: BareClient;
let fds: readonly [number, number];

beforeEach(() => {
  fds = socketPair();
  context = new TlsContext(credentials('server'));
  session = new TlsSession({ context, fd: fds[0], endpoint: 'server', onNamed: () => {} });
  client = new BareClient(fds[1]);
  for (let done = [false, false]; done.includes(false); ) {
    done = [client.handshake(), done[1] === true || session.handshake()];
  }
});

afterEach(() => {
  client.free();
  session.free();
  context.free();
  for (const fd of fds) close(fd);
});

const read = (): number => session.read(memory.address, memory.bytes.length);

describe('TlsSession', () => {
  it('takes new keys as often as anybody needs them', () => {
    client.askForKeys(8);
    client.say('hello');
    expect(memory.bytes.toString('latin1', 0, read())).toBe('hello');
    expect(read()).toBe(WOULD_BLOCK);
    expect(session.write(memory.address, 5)).toBe(5);
  });

  it('ends with a client that asks for new keys and for little else', () => {
    for (let round = 0; round < 4; round++) {
      client.askForKeys(4);
      client.say('hello');
      expect(read()).toBe(5);
    }
    client.askForKeys(1000);
    client.say('hello');
    expect(read).toThrow('Protocol error');
    expect(() => session.write(memory.address, 5)).toThrow('Protocol error');
  });

  it('ends with a server that says only what means nothing', () => {
    const [own, other] = socketPair();
    onTestFinished(() => {
      for (const fd of [own, other]) close(fd);
    });
    const clientContext = new TlsContext(credentials('client'));
    onTestFinished(() => clientContext.free());
    const talked = new TlsSession({
      context: clientContext,
      fd: own,
      endpoint: 'client',
      onNamed: () => {},
    });
    onTestFinished(() => talked.free());
    const { address, bytes } = bufferOf(helloRequests());
    let at = 0;
    const listen = (): void => {
      for (let turns = 0; turns < 100; turns++) {
        for (;;) {
          const sent = send(other, address + at, bytes.length - at);
          if (sent === WOULD_BLOCK) break;
          at = (at + sent) % bytes.length;
        }
        expect(talked.handshake()).toBe(false);
      }
    };
    expect(listen).toThrow('excessive message size');
  });
});

/** A record of as many HelloRequests as fit: a client may be asked at any time to begin a handshake, and need not. */
function helloRequests(): Buffer {
  const content = 4 * 4095;
  const record = Buffer.alloc(5 + content);
  record.writeUInt8(22);
  record.writeUInt16BE(0x303, 1);
  record.writeUInt16BE(content, 3);
  return record;
}
