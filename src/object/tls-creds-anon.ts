// The object type `tls-creds-anon`: TLS without identification.

import { dhParamsPath, type TlsCreds, tlsCredsFrom, tlsCredsProperties } from './tls-creds.ts';
import type { UserObjectType } from './user-object.ts';

export const tlsCredsAnon: UserObjectType<'tls-creds-anon', TlsCreds> = {
  name: 'tls-creds-anon',
  parent: 'tls-creds',
  properties: [...tlsCredsProperties, { name: 'loaded', type: 'bool', get: () => true }],
  create: async (options) => {
    const { readDhParams } = await import('./tls-creds-files.ts');
    const read = ({ endpoint, dir }: Pick<TlsCreds, 'endpoint' | 'dir'>) => {
      const dhParams = endpoint === 'server' ? readDhParams(dhParamsPath(dir)) : undefined;
      return { kind: 'anon', ...(dhParams === undefined ? {} : { dhParams }) } as const;
    };
    const common = tlsCredsFrom(options);
    const state: TlsCreds = {
      ...common,
      material: read(common),
      reload() {
        this.material = read(this);
      },
    };
    return state;
  },
};
