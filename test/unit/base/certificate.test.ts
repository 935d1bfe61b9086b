import { X509Certificate } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  certificateFields,
  KEY_USAGE_CERTIFICATE_SIGN,
  KEY_USAGE_DIGITAL_SIGNATURE,
  PURPOSE_TLS_CLIENT,
  PURPOSE_TLS_SERVER,
  revocationList,
} from '../../../src/base/certificate.ts';
import { derOf } from '../../../src/object/tls-creds-files.ts';
import { fixture } from '../../helpers/tls-files.ts';

const fieldsOf = (name: string) =>
  certificateFields(new X509Certificate(fixture(`${name}-cert.pem`)).raw);

describe('certificateFields', () => {
  it('writes a name in the order of the certificate, with commas escaped', () => {
    expect(fieldsOf('client').subject).toBe('C=GB,O=Example\\, Inc,CN=client1');
  });

  it('writes whatever a name may hold as GnuTLS writes it', () => {
    expect(fieldsOf('odd-name').subject).toBe(
      'C=GB,O=Smith\\, Jones \\+ Co \\<a\\;b\\>=c\\\\d,OU=\\#1,CN=Jörg 中,EMAIL=a@b.example,' +
        '1.2.3.4.5=#0c036f776e,DC=example,UID=u1,CN=B+OU=A',
    );
  });

  it('tells an authority from others', () => {
    expect(fieldsOf('ca').isCa).toBe(true);
    expect(fieldsOf('server').isCa).toBe(false);
  });

  it('tells what a key may be used for', () => {
    expect(fieldsOf('ca').keyUsage?.bits).toEqual(new Set([KEY_USAGE_CERTIFICATE_SIGN]));
    expect(fieldsOf('server').keyUsage?.bits).toEqual(new Set([KEY_USAGE_DIGITAL_SIGNATURE]));
    expect(fieldsOf('server').keyUsage?.critical).toBe(true);
    expect(fieldsOf('server').purposes?.oids).toEqual([PURPOSE_TLS_SERVER]);
    expect(fieldsOf('client').purposes?.oids).toEqual([PURPOSE_TLS_CLIENT]);
  });

  it('reads both ways of writing a time', () => {
    // UTCTime up to 2049, GeneralizedTime from 2050 on.
    expect(new Date(fieldsOf('client').notBefore).toISOString()).toBe('2020-01-01T00:00:00.000Z');
    expect(new Date(fieldsOf('client').notAfter).toISOString()).toBe('2120-01-01T00:00:00.000Z');
  });

  it('agrees with OpenSSL on every fixture', () => {
    for (const name of ['ca', 'other', 'server', 'client', 'client-expired', 'server-future']) {
      const certificate = new X509Certificate(fixture(`${name}-cert.pem`));
      const { notBefore, notAfter, isCa } = certificateFields(certificate.raw);
      expect([notBefore, notAfter, isCa]).toEqual([
        Date.parse(certificate.validFrom),
        Date.parse(certificate.validTo),
        certificate.ca,
      ]);
    }
  });

  it('refuses what is no certificate, whatever it is', () => {
    const { raw } = new X509Certificate(fixture('client-cert.pem'));
    expect(() => certificateFields(raw.subarray(0, 100))).toThrow(RangeError);
    expect(() => certificateFields(Buffer.alloc(0))).toThrow(RangeError);
    fc.assert(
      fc.property(fc.nat(raw.length - 1), fc.integer({ min: 0, max: 255 }), (at, byte) => {
        const broken = Buffer.from(raw);
        broken[at] = byte;
        try {
          certificateFields(broken);
        } catch (error) {
          expect(error).toBeInstanceOf(RangeError);
        }
      }),
    );
  });
});

describe('revocationList', () => {
  it('names the certificates that their issuer has taken back', () => {
    const list = revocationList(derOf(fixture('ca-crl.pem')));
    const { issuer, serial } = fieldsOf('client-revoked');
    expect(list.issuer).toBe(issuer);
    expect([...list.serials]).toEqual([serial]);
    expect(list.serials.has(fieldsOf('client').serial)).toBe(false);
    expect(fieldsOf('client-other').issuer).not.toBe(list.issuer);
  });

  it('refuses what is none', () => {
    expect(() => revocationList(Buffer.from('3003020100', 'hex'))).toThrow(RangeError);
    expect(() => revocationList(Buffer.alloc(0))).toThrow(RangeError);
  });
});
