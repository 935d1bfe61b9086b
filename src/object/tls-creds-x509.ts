// The object type `tls-creds-x509`: TLS with certificates. The files are read by tls-creds-x509-files.ts.

import { type TlsCreds, tlsCredsFrom, tlsCredsProperties } from './tls-creds.ts';
import type { UserObjectType } from './user-object.ts';

export interface TlsCredsX509 extends TlsCreds {
  sanityCheck: boolean;
  passwordid: string | undefined;
  /** Ends the watch of the files, if there is one. */
  unwatch: (() => void) | undefined;
}

const isCredential = (name: string): boolean => name.endsWith('.pem');

export const tlsCredsX509: UserObjectType<'tls-creds-x509', TlsCredsX509> = {
  name: 'tls-creds-x509',
  parent: 'tls-creds',
  properties: [
    ...tlsCredsProperties,
    {
      name: 'sanity-check',
      type: 'bool',
      get: ({ sanityCheck }) => sanityCheck,
      set: (state, value) => {
        state.sanityCheck = value as boolean;
      },
    },
    {
      name: 'passwordid',
      type: 'string',
      get: ({ passwordid }) => passwordid ?? '',
      set: (state, value) => {
        state.passwordid = value as string;
      },
    },
    { name: 'loaded', type: 'bool', get: () => true },
  ],
  create: async (options, { objects, trace, log }) => {
    const { readX509 } = await import('./tls-creds-x509-files.ts');
    const common = {
      ...tlsCredsFrom(options),
      sanityCheck: options['sanity-check'] ?? true,
      passwordid: options.passwordid,
      unwatch: undefined,
    };
    const state: TlsCredsX509 = {
      ...common,
      material: readX509(common, { objects, trace }),
      reload() {
        this.material = readX509(this, { objects, trace });
      },
    };
    if (options['x-watch'] === true && state.dir !== undefined) {
      const { watchFiles } = await import('./file-watch.ts');
      state.unwatch = watchFiles(state.dir, isCredential, () => {
        try {
          state.reload();
        } catch (error) {
          const reason = error instanceof Error ? error.message : String(error);
          log.error(`Unable to reload TLS credentials '${options.id}': ${reason}`);
        }
      });
    }
    return state;
  },
  destroy: ({ unwatch }) => unwatch?.(),
};
