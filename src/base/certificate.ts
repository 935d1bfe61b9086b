// What X.509 certificates and revocation lists say (RFC 5280), read from their DER without judging it. Names come out as GnuTLS
// writes them, for they are what access lists hold: RFC 4514's escapes, but in the order of the certificate.

export interface CertificateFields {
  /** The subject: `C=GB,O=Example,CN=client1`. */
  readonly subject: string;
  /** The issuer's name and the serial number that it gave, both in DER as hexadecimal digits: only for comparing. */
  readonly issuer: string;
  readonly serial: string;
  /** Milliseconds since 1970. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** The object identifier of the signature's algorithm. */
  readonly signatureAlgorithm: string;
  /** basicConstraints' cA; undefined without that extension. */
  readonly isCa: boolean | undefined;
  /** Which keyUsage bits are set, by bit number. */
  readonly keyUsage: { readonly bits: ReadonlySet<number>; readonly critical: boolean } | undefined;
  /** Object identifiers of extKeyUsage. */
  readonly purposes: { readonly oids: readonly string[]; readonly critical: boolean } | undefined;
}

export const KEY_USAGE_DIGITAL_SIGNATURE = 0;
export const KEY_USAGE_CERTIFICATE_SIGN = 5;
export const PURPOSE_TLS_SERVER = '1.3.6.1.5.5.7.3.1';
export const PURPOSE_TLS_CLIENT = '1.3.6.1.5.5.7.3.2';
export const PURPOSE_ANY = '2.5.29.37.0';

/** Algorithms of signatures that are no longer trusted: those with MD5 or SHA-1. */
export const insecureSignatures: ReadonlySet<string> = new Set([
  '1.2.840.113549.1.1.4',
  '1.2.840.113549.1.1.5',
  '1.3.14.3.2.29',
  '1.2.840.10040.4.3',
  '1.2.840.10045.4.1',
]);

const BOOLEAN = 0x01;
const INTEGER = 0x02;
const SEQUENCE = 0x30;
const BMP_STRING = 0x1e;
const UNIVERSAL_STRING = 0x1c;
const GENERALIZED_TIME = 0x18;
const VERSION = 0xa0;
const EXTENSIONS = 0xa3;

const KEY_USAGE = '2.5.29.15';
const BASIC_CONSTRAINTS = '2.5.29.19';
const EXTENDED_KEY_USAGE = '2.5.29.37';

/** Names of the attributes of a name; one that is not here is written as its identifier and the DER of its value. */
const attributeNames: Readonly<Record<string, string>> = {
  '2.5.4.3': 'CN',
  '2.5.4.4': 'surName',
  '2.5.4.5': 'serialNumber',
  '2.5.4.6': 'C',
  '2.5.4.7': 'L',
  '2.5.4.8': 'ST',
  '2.5.4.9': 'street',
  '2.5.4.10': 'O',
  '2.5.4.11': 'OU',
  '2.5.4.12': 'title',
  '2.5.4.13': 'description',
  '2.5.4.15': 'businessCategory',
  '2.5.4.17': 'postalCode',
  '2.5.4.20': 'telephoneNumber',
  '2.5.4.41': 'name',
  '2.5.4.42': 'givenName',
  '2.5.4.43': 'initials',
  '2.5.4.44': 'generationQualifier',
  '2.5.4.46': 'dnQualifier',
  '2.5.4.65': 'pseudonym',
  '0.9.2342.19200300.100.1.1': 'UID',
  '0.9.2342.19200300.100.1.25': 'DC',
  '1.2.840.113549.1.9.1': 'EMAIL',
  '1.3.6.1.5.5.7.9.2': 'placeOfBirth',
  '1.3.6.1.5.5.7.9.3': 'gender',
  '1.3.6.1.5.5.7.9.4': 'countryOfCitizenship',
  '1.3.6.1.5.5.7.9.5': 'countryOfResidence',
  '1.3.6.1.4.1.311.60.2.1.1': 'jurisdictionOfIncorporationLocalityName',
  '1.3.6.1.4.1.311.60.2.1.2': 'jurisdictionOfIncorporationStateOrProvinceName',
  '1.3.6.1.4.1.311.60.2.1.3': 'jurisdictionOfIncorporationCountryName',
};

/** The fields of a certificate in DER. Throws RangeError when it is none. */
export function certificateFields(der: Uint8Array): CertificateFields {
  const bytes = Buffer.from(der.buffer, der.byteOffset, der.byteLength);
  const [body] = parts(element(bytes, 0));
  const fields = parts(given(body));
  // The version, which the oldest certificates do not have, shifts the rest.
  const first = fields[0]?.tag === VERSION ? 1 : 0;
  const [algorithm] = parts(given(fields[first + 1]));
  const [notBefore, notAfter] = parts(given(fields[first + 3]));
  const holder = fields.find(({ tag }) => tag === EXTENSIONS);
  const extensions = holder === undefined ? [] : parts(given(parts(holder)[0])).map(extensionOf);
  const find = (oid: string): Extension | undefined =>
    extensions.find((known) => known.oid === oid);
  return {
    subject: nameText(given(fields[first + 4])),
    issuer: given(fields[first + 2]).whole.toString('hex'),
    serial: given(fields[first]).content.toString('hex'),
    notBefore: timeOf(given(notBefore)),
    notAfter: timeOf(given(notAfter)),
    signatureAlgorithm: oidText(given(algorithm)),
    isCa: map(find(BASIC_CONSTRAINTS), ({ value }) => {
      const [ca] = parts(value);
      return ca?.tag === BOOLEAN && ca.content[0] !== 0;
    }),
    keyUsage: map(find(KEY_USAGE), ({ value, critical }) => ({ bits: bitsOf(value), critical })),
    purposes: map(find(EXTENDED_KEY_USAGE), ({ value, critical }) => ({
      oids: parts(value).map(oidText),
      critical,
    })),
  };
}

/** Serial numbers of certificates that their issuer has taken back; both as in CertificateFields. */
export interface RevocationList {
  readonly issuer: string;
  readonly serials: ReadonlySet<string>;
}

//   tbsCertList: version (optional), signature, issuer, thisUpdate, nextUpdate (optional), revokedCertificates (optional), ...
/** What a revocation list in DER says. Throws RangeError when it is none. */
export function revocationList(der: Uint8Array): RevocationList {
  const bytes = Buffer.from(der.buffer, der.byteOffset, der.byteLength);
  const [body] = parts(element(bytes, 0));
  const fields = parts(given(body));
  const first = fields[0]?.tag === INTEGER ? 1 : 0;
  const revoked = fields.slice(first + 2).find(({ tag }) => tag === SEQUENCE);
  const entries = revoked === undefined ? [] : parts(revoked);
  return {
    issuer: given(fields[first + 1]).whole.toString('hex'),
    serials: new Set(entries.map((entry) => given(parts(entry)[0]).content.toString('hex'))),
  };
}

/** One DER element: its tag, what is in it, and the whole of it. */
interface Element {
  readonly tag: number;
  readonly content: Buffer;
  readonly whole: Buffer;
}

function element(bytes: Buffer, at: number): Element {
  const tag = bytes.readUInt8(at);
  const short = bytes.readUInt8(at + 1);
  const lengthBytes = short < 0x80 ? 0 : short - 0x80;
  const length = lengthBytes === 0 ? short : bytes.readUIntBE(at + 2, lengthBytes);
  const start = at + 2 + lengthBytes;
  const end = start + length;
  if (short === 0x80 || end > bytes.length) throw new RangeError('truncated DER');
  return { tag, content: bytes.subarray(start, end), whole: bytes.subarray(at, end) };
}

function parts({ content }: Element): Element[] {
  const found: Element[] = [];
  for (let at = 0; at < content.length; ) {
    const part = element(content, at);
    found.push(part);
    at += part.whole.length;
  }
  return found;
}

function given(part: Element | undefined): Element {
  if (part === undefined) throw new RangeError('incomplete DER');
  return part;
}

function map<T, R>(value: T | undefined, with_: (value: T) => R): R | undefined {
  return value === undefined ? undefined : with_(value);
}

interface Extension {
  readonly oid: string;
  readonly critical: boolean;
  readonly value: Element;
}

function extensionOf(part: Element): Extension {
  const [oid, ...rest] = parts(part);
  const flag = rest.find(({ tag }) => tag === BOOLEAN);
  const value = element(given(rest.at(-1)).content, 0);
  return { oid: oidText(given(oid)), critical: flag !== undefined && flag.content[0] !== 0, value };
}

function oidText({ content }: Element): string {
  const numbers: number[] = [];
  let value = 0;
  for (const byte of content) {
    value = value * 0x80 + (byte & 0x7f);
    if (byte >= 0x80) continue;
    if (numbers.length === 0) {
      const root = Math.min(2, Math.floor(value / 40));
      numbers.push(root, value - root * 40);
    } else {
      numbers.push(value);
    }
    value = 0;
  }
  return numbers.join('.');
}

/** Numbers of the set bits of a BIT STRING, the first bit being 0. */
function bitsOf({ content }: Element): Set<number> {
  const bits = new Set<number>();
  for (let bit = 0; bit < (content.length - 1) * 8; bit++) {
    if (((content[1 + (bit >> 3)] ?? 0) & (0x80 >> (bit & 7))) !== 0) bits.add(bit);
  }
  return bits;
}

/** UTCTime `YYMMDDHHMMSSZ` or GeneralizedTime `YYYYMMDDHHMMSSZ`. */
function timeOf({ tag, content }: Element): number {
  const digits = content.toString('latin1').replace(/Z$/, '');
  const long = tag === GENERALIZED_TIME;
  const year = Number(digits.slice(0, long ? 4 : 2));
  const [month = 1, day = 1, hours = 0, minutes = 0, seconds = 0] = (
    digits.slice(long ? 4 : 2).match(/../g) ?? []
  ).map(Number);
  const fullYear = long ? year : year + (year < 50 ? 2000 : 1900);
  return Date.UTC(fullYear, month - 1, day, hours, minutes, seconds);
}

function nameText(name: Element): string {
  return parts(name)
    .map((rdn) => parts(rdn).map(attributeText).join('+'))
    .join(',');
}

function attributeText(attribute: Element): string {
  const [type, value] = parts(attribute);
  const oid = oidText(given(type));
  const name = attributeNames[oid];
  if (name === undefined) return `${oid}=#${given(value).whole.toString('hex')}`;
  return `${name}=${escaped(stringOf(given(value)))}`;
}

function stringOf({ tag, content }: Element): string {
  if (tag === BMP_STRING) return Buffer.from(content).swap16().toString('utf16le');
  if (tag === UNIVERSAL_STRING) {
    const points = Array.from({ length: content.length >> 2 }, (_, i) =>
      content.readUInt32BE(4 * i),
    );
    return String.fromCodePoint(...points);
  }
  return content.toString('utf8');
}

function escaped(text: string): string {
  return text
    .replaceAll(/[,+"\\<>;]/g, '\\$&')
    .replace(/^[ #]/, '\\$&')
    .replace(/ $/, '\\ ');
}
