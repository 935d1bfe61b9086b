// The object type `tls-cipher-suites`: a priority string and nothing to prove who one is with. The reference hands the list of
// suites to a virtual machine's firmware; a storage daemon has none, so that here, as there, it is credentials that no session
// takes. Whether the string makes sense is not asked.

import { QmpError } from '../qapi/errors.ts';
import { type TlsCreds, tlsCredsFrom, tlsCredsProperties } from './tls-creds.ts';
import type { UserObjectType } from './user-object.ts';

export const tlsCipherSuites: UserObjectType<'tls-cipher-suites', TlsCreds> = {
  name: 'tls-cipher-suites',
  parent: 'tls-creds',
  properties: tlsCredsProperties,
  create: (options) => {
    if (options.priority === undefined) throw new QmpError("'priority' property is not set");
    return {
      ...tlsCredsFrom(options),
      material: { kind: 'unsupported', type: 'tls-cipher-suites' },
      reload() {},
    };
  },
};
