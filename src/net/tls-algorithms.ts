// The algorithms that GnuTLS's priority strings name, and what OpenSSL calls them.

export interface Suite {
  readonly openssl: string;
  /** Undefined for the suites of TLS 1.3, which leave the key exchange open. */
  readonly exchange: string | undefined;
  readonly cipher: string;
  readonly mac: 'AEAD' | 'SHA1' | 'SHA256' | 'SHA384';
}

const ciphersOfTls13: Readonly<Record<string, string>> = {
  'AES-256-GCM': 'TLS_AES_256_GCM_SHA384',
  'CHACHA20-POLY1305': 'TLS_CHACHA20_POLY1305_SHA256',
  'AES-128-GCM': 'TLS_AES_128_GCM_SHA256',
  'AES-128-CCM': 'TLS_AES_128_CCM_SHA256',
  'AES-128-CCM-8': 'TLS_AES_128_CCM_8_SHA256',
};

/** OpenSSL's prefix for a key exchange. */
const exchanges: Readonly<Record<string, string>> = {
  'ECDHE-ECDSA': 'ECDHE-ECDSA-',
  'ECDHE-RSA': 'ECDHE-RSA-',
  'DHE-RSA': 'DHE-RSA-',
  RSA: '',
  'ECDHE-PSK': 'ECDHE-PSK-',
  'DHE-PSK': 'DHE-PSK-',
  PSK: 'PSK-',
  'ANON-DH': 'ADH-',
  'ANON-ECDH': 'AECDH-',
};

/** OpenSSL's name of cipher and MAC, with certificates and with keys, by GnuTLS's names of both. */
const ciphersOfTls12: readonly {
  readonly cipher: string;
  readonly mac: Suite['mac'];
  readonly name: string;
  readonly pskName?: string;
  /** Key exchanges that have no suite with this cipher. */
  readonly without?: readonly string[];
}[] = [
  {
    cipher: 'AES-256-GCM',
    mac: 'AEAD',
    name: 'AES256-GCM-SHA384',
    without: ['ECDHE-PSK', 'ANON-ECDH'],
  },
  {
    cipher: 'CHACHA20-POLY1305',
    mac: 'AEAD',
    name: 'CHACHA20-POLY1305',
    without: ['RSA', 'ANON-DH', 'ANON-ECDH'],
  },
  {
    cipher: 'AES-128-GCM',
    mac: 'AEAD',
    name: 'AES128-GCM-SHA256',
    without: ['ECDHE-PSK', 'ANON-ECDH'],
  },
  {
    cipher: 'AES-256-CCM',
    mac: 'AEAD',
    name: 'AES256-CCM',
    without: ['ECDHE-RSA', 'ECDHE-PSK', 'ANON-DH', 'ANON-ECDH'],
  },
  {
    cipher: 'AES-128-CCM',
    mac: 'AEAD',
    name: 'AES128-CCM',
    without: ['ECDHE-RSA', 'ECDHE-PSK', 'ANON-DH', 'ANON-ECDH'],
  },
  { cipher: 'AES-256-CBC', mac: 'SHA1', name: 'AES256-SHA', pskName: 'AES256-CBC-SHA' },
  { cipher: 'AES-128-CBC', mac: 'SHA1', name: 'AES128-SHA', pskName: 'AES128-CBC-SHA' },
  {
    cipher: 'AES-256-CBC',
    mac: 'SHA384',
    name: 'AES256-SHA384',
    pskName: 'AES256-CBC-SHA384',
    without: ['RSA', 'DHE-RSA', 'ANON-DH', 'ANON-ECDH'],
  },
  {
    cipher: 'AES-128-CBC',
    mac: 'SHA256',
    name: 'AES128-SHA256',
    pskName: 'AES128-CBC-SHA256',
    without: ['ANON-ECDH'],
  },
];

/** All cipher suites that GnuTLS and OpenSSL have in common. */
export const suites: readonly Suite[] = [
  ...Object.entries(ciphersOfTls13).map(([cipher, openssl]): Suite => {
    return { openssl, exchange: undefined, cipher, mac: 'AEAD' };
  }),
  ...Object.entries(exchanges).flatMap(([exchange, prefix]) =>
    ciphersOfTls12
      .filter(({ without = [] }) => !without.includes(exchange))
      .map(({ cipher, mac, name, pskName = name }): Suite => {
        const rest = exchange.includes('PSK') ? pskName : name;
        return { openssl: `${prefix}${rest}`, exchange, cipher, mac };
      }),
  ),
];

/** OpenSSL's names of groups. */
export const groupNames: Readonly<Record<string, string>> = {
  'GROUP-SECP256R1': 'P-256',
  'GROUP-SECP384R1': 'P-384',
  'GROUP-SECP521R1': 'P-521',
  'GROUP-X25519': 'X25519',
  'GROUP-X448': 'X448',
  'GROUP-FFDHE2048': 'ffdhe2048',
  'GROUP-FFDHE3072': 'ffdhe3072',
  'GROUP-FFDHE4096': 'ffdhe4096',
  'GROUP-FFDHE6144': 'ffdhe6144',
  'GROUP-FFDHE8192': 'ffdhe8192',
};

/** Kinds of algorithm, and what `+KIND-ALL` and `-KIND-ALL` are called. */
export type Kind = 'version' | 'cipher' | 'mac' | 'exchange' | 'group' | 'other';
export const everyOf: Readonly<Record<string, Kind>> = {
  'VERS-ALL': 'version',
  'VERS-TLS-ALL': 'version',
  'CIPHER-ALL': 'cipher',
  'MAC-ALL': 'mac',
  'KX-ALL': 'exchange',
  'GROUP-ALL': 'group',
  'CURVE-ALL': 'group',
  'SIGN-ALL': 'other',
  'COMP-ALL': 'other',
  'CTYPE-ALL': 'other',
};

/** GnuTLS's names by kind; those that OpenSSL has nothing for are known, but change nothing. */
export const names: Readonly<Record<Kind, readonly string[]>> = {
  version: ['VERS-TLS1.3', 'VERS-TLS1.2'],
  cipher: [
    ...Object.keys(ciphersOfTls13),
    'AES-256-CCM',
    'AES-256-CBC',
    'AES-128-CBC',
    'AES-192-CBC',
    'AES-192-GCM',
    'AES-256-CCM-8',
    'ARCFOUR-128',
    '3DES-CBC',
    'DES-CBC',
    'CAMELLIA-256-CBC',
    'CAMELLIA-192-CBC',
    'CAMELLIA-128-CBC',
    'CAMELLIA-128-GCM',
    'CAMELLIA-256-GCM',
    'RC2-40',
    'NULL',
  ],
  mac: ['AEAD', 'SHA1', 'SHA256', 'SHA384', 'SHA512', 'MD5'],
  exchange: [
    ...Object.keys(exchanges),
    'DHE-DSS',
    'RSA-PSK',
    'SRP',
    'SRP-RSA',
    'SRP-DSS',
    'VKO-GOST-12',
    'RSA-EXPORT',
  ],
  group: [...Object.keys(groupNames), 'GROUP-SECP192R1', 'GROUP-SECP224R1'],
  other: [
    'VERS-TLS1.1',
    'VERS-TLS1.0',
    'VERS-SSL3.0',
    'VERS-DTLS-ALL',
    'VERS-DTLS0.9',
    'VERS-DTLS1.0',
    'VERS-DTLS1.2',
    'COMP-NULL',
    'CTYPE-X.509',
    'CTYPE-X509',
  ],
};

/** Algorithms of each kind that matters, in order of preference. */
export type AlgorithmSets = { [K in Exclude<Kind, 'other'>]: readonly string[] };

/** What most of it begins with. */
export const normal: AlgorithmSets = {
  version: names.version,
  cipher: [
    'AES-256-GCM',
    'CHACHA20-POLY1305',
    'AES-256-CCM',
    'AES-256-CBC',
    'AES-128-GCM',
    'AES-128-CCM',
    'AES-128-CBC',
  ],
  mac: ['SHA1', 'AEAD'],
  exchange: ['ECDHE-ECDSA', 'ECDHE-RSA', 'RSA', 'DHE-RSA'],
  group: Object.keys(groupNames),
};
const secure192: AlgorithmSets = {
  ...normal,
  cipher: ['AES-256-GCM', 'CHACHA20-POLY1305', 'AES-256-CBC', 'AES-256-CCM'],
  mac: ['AEAD'],
  group: ['GROUP-SECP384R1', 'GROUP-SECP521R1', 'GROUP-FFDHE8192'],
};
const suiteb192: AlgorithmSets = {
  version: ['VERS-TLS1.2'],
  cipher: ['AES-256-GCM'],
  mac: ['AEAD'],
  exchange: ['ECDHE-ECDSA'],
  group: ['GROUP-SECP384R1'],
};
/** Keywords, which stand for a whole set. */
export const keywords: Readonly<Record<string, AlgorithmSets>> = {
  NORMAL: normal,
  LEGACY: normal,
  PERFORMANCE: {
    ...normal,
    cipher: [
      'AES-128-GCM',
      'AES-256-GCM',
      'CHACHA20-POLY1305',
      'AES-128-CCM',
      'AES-256-CCM',
      'AES-128-CBC',
      'AES-256-CBC',
    ],
  },
  PFS: { ...normal, exchange: ['ECDHE-ECDSA', 'ECDHE-RSA', 'DHE-RSA'] },
  SECURE128: normal,
  SECURE192: secure192,
  SECURE256: secure192,
  SUITEB192: suiteb192,
  SUITEB128: {
    ...suiteb192,
    cipher: ['AES-256-GCM', 'AES-128-GCM'],
    group: ['GROUP-SECP256R1', 'GROUP-SECP384R1'],
  },
  NONE: { version: [], cipher: [], mac: [], exchange: [], group: [] },
};

/** Options: what follows a `%`. */
export const options = [
  'COMPAT',
  'DUMBFW',
  'NO_EXTENSIONS',
  'NO_STATUS_REQUEST',
  'NO_TICKETS',
  'NO_TICKETS_TLS12',
  'NO_SESSION_HASH',
  'SERVER_PRECEDENCE',
  'SSL3_RECORD_VERSION',
  'LATEST_RECORD_VERSION',
  'STATELESS_COMPRESSION',
  'DISABLE_WILDCARDS',
  'NO_ETM',
  'FORCE_ETM',
  'DISABLE_SAFE_RENEGOTIATION',
  'UNSAFE_RENEGOTIATION',
  'SAFE_RENEGOTIATION',
  'PARTIAL_RENEGOTIATION',
  'FALLBACK_SCSV',
  'DISABLE_TLS13_COMPAT_MODE',
  'VERIFY_ALLOW_BROKEN',
  'VERIFY_ALLOW_SIGN_RSA_MD5',
  'VERIFY_ALLOW_SIGN_WITH_SHA1',
  'VERIFY_DISABLE_CRL_CHECKS',
  'VERIFY_ALLOW_X509_V1_CA_CRT',
  'PROFILE_LOW',
  'PROFILE_LEGACY',
  'PROFILE_MEDIUM',
  'PROFILE_HIGH',
  'PROFILE_ULTRA',
  'PROFILE_FUTURE',
  'PROFILE_SUITEB128',
  'PROFILE_SUITEB192',
  'PROFILE_VERY_WEAK',
  'ALLOW_SMALL_RECORDS',
];
