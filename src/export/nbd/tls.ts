// TLS for the server's connections. The code for it is loaded with the first server that has credentials.

import type { TlsCredentials } from '../../base/tls-credentials.ts';
import type { ByteChannel } from '../../net/byte-channel.ts';
import { SocketChannel } from '../../net/socket-channel.ts';
import { isAuthorized } from '../../object/authz.ts';
import type { ObjectLookup } from '../../object/user-object.ts';

/** A channel whose peer is not known before `ready` resolves; it rejects with the reference's reason, and is closed then. */
export interface SecuredChannel extends ByteChannel {
  readonly ready: Promise<void>;
}

export interface NbdTls {
  /**
   * Takes over a connection for TLS. `received` is what the client sent behind its request: it belongs to TLS, so nothing that
   * came in the clear is ever taken for anything else. Throws with the reference's reason.
   */
  start(plain: ByteChannel, received: Uint8Array): SecuredChannel;
}

/** Makes TLS of credentials, once they are known. */
export type NbdTlsFactory = (
  credentials: TlsCredentials,
  access: { readonly authz: string | undefined; readonly objects: ObjectLookup },
) => NbdTls;

export async function loadTls(): Promise<NbdTlsFactory> {
  const { TlsAcceptor } = await import('../../net/tls.ts');
  return (credentials, { authz, objects }) => {
    const acceptor = new TlsAcceptor(credentials);
    return {
      start: (plain, received) => {
        if (!(plain instanceof SocketChannel)) throw new Error('TLS needs a socket');
        return acceptor.accept(plain, {
          received,
          // The time limit of the whole handshake is the client's.
          handshakeMs: 0,
          // The object is looked for when a client comes: it may be made, and made anew, later.
          ...(authz === undefined
            ? {}
            : { authorize: (name) => isAuthorized(authz, name, objects) }),
        });
      },
    };
  };
}
