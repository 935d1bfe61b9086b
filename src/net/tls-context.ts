// From credentials to OpenSSL's context: what all sessions that are made with them have in common.

import type { SessionMaterial, TlsCredentials, X509Material } from '../base/tls-credentials.ts';
import { addressOf, functionPointer, libc } from '../sys/libc.ts';
import { acceptAll, hasOpenssl, openssl, opensslFailure } from '../sys/openssl.ts';
import { TlsError } from './tls-failure.ts';
import {
  effectivePriority,
  PriorityError,
  parametersOf,
  type TlsParameters,
} from './tls-priority.ts';

const SSL_CTRL_MODE = 33;
const SSL_CTRL_SET_SESS_CACHE_MODE = 44;
const SSL_CTRL_CHAIN_CERT = 89;
const SSL_CTRL_SET_GROUPS_LIST = 92;
const SSL_CTRL_SET_DH_AUTO = 118;
const SSL_CTRL_SET_MIN_PROTO_VERSION = 123;
const SSL_CTRL_SET_MAX_PROTO_VERSION = 124;

const SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER = 0x2;
const SSL_MODE_RELEASE_BUFFERS = 0x10;
const SSL_SESS_CACHE_OFF = 0;
const SSL_VERIFY_PEER = 1;
const SSL_CB_LOOP = 1;

/** A write may be tried again from another address; idle sessions hold no buffers. */
const MODE = SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS;

const SSL_OP_IGNORE_UNEXPECTED_EOF = 2 ** 7;
const SSL_OP_NO_TICKET = 2 ** 14;
const SSL_OP_CIPHER_SERVER_PREFERENCE = 2 ** 22;
const SSL_OP_NO_RENEGOTIATION = 2 ** 30;

/**
 * Sessions are not resumed: each connection shows its certificate. TLS 1.2 could begin again in the middle, which nobody needs
 * and which is work for one side only. A peer that leaves without a word of TLS has left, as one in the clear.
 */
const OPTIONS =
  SSL_OP_IGNORE_UNEXPECTED_EOF +
  SSL_OP_NO_TICKET +
  SSL_OP_CIPHER_SERVER_PREFERENCE +
  SSL_OP_NO_RENEGOTIATION;

const versions = { 'TLSv1.2': 0x303, 'TLSv1.3': 0x304 } satisfies Record<
  TlsParameters['minVersion'],
  number
>;

/** Suites without a certificate are below what OpenSSL takes for secure by default. */
const ANONYMOUS = ':@SECLEVEL=0';

type Psk = Extract<SessionMaterial, { kind: 'psk' }>;
type FunctionPointer = ReturnType<typeof functionPointer>;

/** What a context has outside of the heap. */
interface Native {
  readonly address: number;
  readonly callbacks: FunctionPointer[];
}

// A context lasts as long as whoever may still make a session with it, or has one.
const contexts = new FinalizationRegistry<Native>(freeNative);

function freeNative({ address, callbacks }: Native): void {
  openssl.SSL_CTX_free(address);
  for (const callback of callbacks) callback.release();
}

/** Who is told what comes up within OpenSSL. */
export interface SessionListener {
  /** The peer has said which user it is. */
  named(user: string): void;
  /** OpenSSL has done a step of a handshake, or for another message that is no data. */
  stepped(): void;
}

type Listeners = ReadonlyMap<number, SessionListener>;

export class TlsContext {
  readonly address: number;
  readonly #native: Native;
  /** By the session's address. */
  readonly listeners = new Map<number, SessionListener>();

  /** Throws TlsError: with the reference's text for a priority string that cannot be used. */
  constructor(credentials: TlsCredentials) {
    const { material, priority, endpoint } = credentials;
    if (material.kind === 'unsupported') {
      throw new TlsError(`Unsupported TLS credentials type ${material.type}`);
    }
    const chosen = parameters(material, priority);
    if (!hasOpenssl()) throw new TlsError('This build of node does not export OpenSSL');
    this.address = openssl.SSL_CTX_new(openssl.TLS_method());
    if (this.address === 0) throw new TlsError(opensslFailure());
    const callbacks: FunctionPointer[] = [];
    this.#native = { address: this.address, callbacks };
    contexts.register(this, this.#native, this.#native);
    openssl.ERR_clear_error();
    this.#configure(chosen, material);
    callbacks.push(reportSteps(this.address, this.listeners));
    if (material.kind === 'x509') this.#identify(material);
    // Peers are checked afterwards, by checkPeer: no certificate ends the handshake.
    if (material.kind === 'x509' || endpoint === 'client') {
      openssl.SSL_CTX_set_verify(this.address, SSL_VERIFY_PEER, acceptAll.address);
    }
    if (material.kind === 'psk') {
      callbacks.push(
        endpoint === 'server'
          ? askForKeys(this.address, material, this.listeners)
          : showKey(this.address, material),
      );
    }
  }

  /** Gives it back before nobody refers to it any more. Its sessions must have been freed. */
  free(): void {
    if (contexts.unregister(this.#native)) freeNative(this.#native);
  }

  #configure(chosen: TlsParameters, material: SessionMaterial): void {
    const { address } = this;
    const suites = chosen.ciphers.split(':');
    const isNew = (suite: string): boolean => suite.startsWith('TLS_');
    const old = suites.filter((suite) => !isNew(suite)).join(':');
    openssl.SSL_CTX_set_options(address, OPTIONS);
    openssl.SSL_CTX_ctrl(address, SSL_CTRL_MODE, MODE, 0);
    openssl.SSL_CTX_ctrl(address, SSL_CTRL_SET_SESS_CACHE_MODE, SSL_SESS_CACHE_OFF, 0);
    openssl.SSL_CTX_set_num_tickets(address, 0);
    const { minVersion, maxVersion, groups } = chosen;
    const { SSL_CTX_ctrl } = openssl;
    must(SSL_CTX_ctrl(address, SSL_CTRL_SET_MIN_PROTO_VERSION, versions[minVersion], 0));
    must(SSL_CTX_ctrl(address, SSL_CTRL_SET_MAX_PROTO_VERSION, versions[maxVersion], 0));
    must(openssl.SSL_CTX_ctrlText(address, SSL_CTRL_SET_GROUPS_LIST, 0, groups));
    must(openssl.SSL_CTX_set_ciphersuites(address, suites.filter(isNew).join(':')));
    if (old !== '') {
      const list = material.kind === 'anon' ? `${old}${ANONYMOUS}` : old;
      must(openssl.SSL_CTX_set_cipher_list(address, list));
    }
    if (material.dhParams === undefined) {
      must(openssl.SSL_CTX_ctrl(address, SSL_CTRL_SET_DH_AUTO, 1, 0));
    } else {
      const [params] = readAll(material.dhParams, (bio) => openssl.PEM_read_bio_Parameters(bio, 0));
      // The context owns it from now on.
      must(openssl.SSL_CTX_set0_tmp_dh_pkey(address, params ?? 0));
    }
  }

  /** Whom it trusts, and who it is. */
  #identify({ ca, own }: X509Material): void {
    const { address } = this;
    const store = openssl.SSL_CTX_get_cert_store(address);
    for (const authority of certificates(ca)) {
      openssl.X509_STORE_add_cert(store, authority);
      openssl.SSL_CTX_add_client_CA(address, authority);
      openssl.X509_free(authority);
    }
    if (own === undefined) return;
    for (const [index, certificate] of certificates(own.cert).entries()) {
      if (index === 0) must(openssl.SSL_CTX_use_certificate(address, certificate));
      else must(openssl.SSL_CTX_ctrl(address, SSL_CTRL_CHAIN_CERT, 1, certificate));
      openssl.X509_free(certificate);
    }
    // Without a passphrase OpenSSL would ask on the terminal.
    const { passphrase = '' } = own;
    const [key = 0] = readAll(own.key, (bio) =>
      openssl.PEM_read_bio_PrivateKey(bio, 0, 0, passphrase),
    );
    must(openssl.SSL_CTX_use_PrivateKey(address, key));
    openssl.EVP_PKEY_free(key);
  }
}

function reportSteps(context: number, listeners: Listeners): FunctionPointer {
  const callback = functionPointer('void (uintptr_t, int, int)', (ssl: number, where: number) => {
    if ((where & SSL_CB_LOOP) !== 0) listeners.get(ssl)?.stepped();
  });
  openssl.SSL_CTX_set_info_callback(context, callback.address);
  return callback;
}

/** The server's side of keys: whose key, and then the key. */
function askForKeys(context: number, material: Psk, listeners: Listeners): FunctionPointer {
  const callback = functionPointer(
    'uint (uintptr_t, str, uintptr_t, uint)',
    (ssl: number, user: string, into: number, max: number) => {
      listeners.get(ssl)?.named(user);
      const key = keyOf(material, user);
      if (key === undefined || key.length > max) return 0;
      libc.memcpy(into, addressOf(key), key.length);
      return key.length;
    },
  );
  openssl.SSL_CTX_set_psk_server_callback(context, callback.address);
  return callback;
}

/** The client's side. */
function showKey(context: number, material: Psk): FunctionPointer {
  const callback = functionPointer(
    'uint (uintptr_t, uintptr_t, uintptr_t, uint, uintptr_t, uint)',
    (_ssl: number, _hint: number, name: number, nameMax: number, into: number, max: number) => {
      const user = Buffer.from(`${material.username ?? ''}\0`);
      const key = keyOf(material, material.username ?? '');
      if (key === undefined || key.length > max || user.length > nameMax) return 0;
      libc.memcpy(name, addressOf(user), user.length);
      libc.memcpy(into, addressOf(key), key.length);
      return key.length;
    },
  );
  openssl.SSL_CTX_set_psk_client_callback(context, callback.address);
  return callback;
}

function keyOf(material: Psk, user: string): Buffer | undefined {
  try {
    return material.keyOf(user);
  } catch {
    // The file is gone: nobody is known.
    return undefined;
  }
}

/** The certificates of a text, to be freed. */
function certificates(pem: string): number[] {
  return readAll(pem, (bio) => openssl.PEM_read_bio_X509(bio, 0, 0, 0));
}

/** What `read` finds in a text, one after the other. */
function readAll(pem: string, read: (bio: number) => number): number[] {
  // A copy of the text: memory of ours might be collected while OpenSSL still reads it.
  const bytes = Buffer.from(pem);
  const bio = openssl.BIO_new(openssl.BIO_s_mem());
  openssl.BIO_write(bio, bytes, bytes.length);
  const found: number[] = [];
  for (let next = read(bio); next !== 0; next = read(bio)) found.push(next);
  openssl.BIO_free(bio);
  return found;
}

/** OpenSSL's way to say that something was done. Throws TlsError otherwise. */
function must(result: number): void {
  if (result > 0) return openssl.ERR_clear_error();
  throw new TlsError(`Cannot set session credentials: ${opensslFailure()}`);
}

function parameters(material: SessionMaterial, priority: string | undefined): TlsParameters {
  const effective = effectivePriority(priority, material.kind);
  try {
    return parametersOf(effective, material.kind);
  } catch (error) {
    if (!(error instanceof PriorityError)) throw error;
    const what = material.kind === 'x509' ? 'Cannot set default' : 'Unable to set';
    throw new TlsError(`${what} TLS session priority ${effective}: ${error.message}`);
  }
}
