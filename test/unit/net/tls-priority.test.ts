import { createSecureContext } from 'node:tls';
import { describe, expect, it } from 'vitest';
import { keywords, suites } from '../../../src/net/tls-algorithms.ts';
import { effectivePriority, PriorityError, parametersOf } from '../../../src/net/tls-priority.ts';

const x509 = (priority: string) => parametersOf(priority, 'x509');
const ciphers = (priority: string) => x509(priority).ciphers.split(':');

describe('parametersOf', () => {
  it('takes NORMAL for TLS 1.2 and 1.3 with certificates, forward secrecy first', () => {
    const { minVersion, maxVersion } = x509('NORMAL');
    expect([minVersion, maxVersion]).toEqual(['TLSv1.2', 'TLSv1.3']);
    const names = ciphers('NORMAL');
    expect(names[0]).toBe('TLS_AES_256_GCM_SHA384');
    expect(names.indexOf('ECDHE-RSA-AES256-GCM-SHA384')).toBeLessThan(
      names.indexOf('AES256-GCM-SHA384'),
    );
    expect(names.some((name) => /PSK|ADH|CAMELLIA/.test(name))).toBe(false);
  });

  it.each([
    ['NORMAL:-VERS-TLS1.3', 'TLSv1.2', 'TLSv1.2'],
    ['NORMAL:-VERS-ALL:+VERS-TLS1.3', 'TLSv1.3', 'TLSv1.3'],
    ['NORMAL:-VERS-TLS-ALL:+VERS-TLS1.2', 'TLSv1.2', 'TLSv1.2'],
    ['normal:!vers-tls1.2', 'TLSv1.3', 'TLSv1.3'],
    ['NORMAL:-VERS-TLS1.0:-VERS-TLS1.1', 'TLSv1.2', 'TLSv1.3'],
  ])('%s allows %s to %s', (priority, minVersion, maxVersion) => {
    expect(x509(priority)).toMatchObject({ minVersion, maxVersion });
  });

  it('adds and removes ciphers, exchanges, MACs and groups', () => {
    expect(ciphers('NORMAL:-CIPHER-ALL:+AES-128-GCM:-KX-ALL:+ECDHE-RSA')).toEqual([
      'TLS_AES_128_GCM_SHA256',
      'ECDHE-RSA-AES128-GCM-SHA256',
    ]);
    expect(ciphers('SECURE256').some((name) => name.includes('AES128'))).toBe(false);
    expect(ciphers('PFS').some((name) => name === 'AES256-GCM-SHA384')).toBe(false);
    expect(ciphers('NORMAL:-SHA1').some((name) => name.endsWith('SHA'))).toBe(false);
    expect(ciphers('NORMAL:-MAC-SHA1')).toEqual(ciphers('NORMAL:-SHA1'));
    expect(x509('NORMAL:-GROUP-ALL:+GROUP-X25519').groups).toBe('X25519');
    expect(x509('NORMAL:-CURVE-ALL:+CURVE-SECP384R1').groups).toBe('P-384');
  });

  it('keeps the order in which ciphers are named', () => {
    const names = ciphers('NONE:+VERS-TLS1.3:+CHACHA20-POLY1305:+AES-128-GCM:+AEAD:+GROUP-ALL');
    expect(names).toEqual(['TLS_CHACHA20_POLY1305_SHA256', 'TLS_AES_128_GCM_SHA256']);
  });

  it('ignores what GnuTLS knows and OpenSSL has not', () => {
    const more = 'NORMAL:+CAMELLIA-128-CBC:+SRP:+VERS-TLS1.1:+SIGN-ALL:+SIGN-RSA-SHA1:%COMPAT';
    expect(x509(more)).toEqual(x509('NORMAL'));
  });

  it('offers a peer only what suits the credentials', () => {
    const psk = parametersOf(effectivePriority(undefined, 'psk'), 'psk');
    expect(psk.ciphers.split(':').every((name) => /^TLS_|PSK/.test(name))).toBe(true);
    const anon = parametersOf(effectivePriority(undefined, 'anon'), 'anon');
    expect(anon).toMatchObject({ minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' });
    expect(anon.ciphers.split(':').every((name) => name.startsWith('ADH-'))).toBe(true);
    // Asked for by the user, but nobody gets in without a certificate.
    expect(ciphers('NORMAL:+ANON-DH:+PSK').some((name) => /PSK|ADH/.test(name))).toBe(false);
  });

  it.each(['bogus', '', 'NORMAL:bogus', 'NORMAL:+bogus', 'NORMAL:%BOGUS', 'NORMAL::', '@SYSTEM'])(
    'refuses %j as GnuTLS does',
    (priority) => {
      expect(() => x509(priority)).toThrow(new PriorityError('The request is invalid.'));
    },
  );

  it.each([
    'NONE',
    'NORMAL:-VERS-ALL',
    'NORMAL:-CIPHER-ALL',
    'NORMAL:-GROUP-ALL',
    'NORMAL:-MAC-ALL',
  ])('refuses %j, which leaves nothing', (priority) => {
    const nothing = 'No or insufficient priorities were set.';
    expect(() => x509(priority)).toThrow(new PriorityError(nothing));
  });
});

describe('the tables', () => {
  it('name suites that OpenSSL has', () => {
    for (const { openssl, exchange } of suites) {
      if (exchange === undefined) continue;
      const make = () => createSecureContext({ ciphers: `${openssl}:@SECLEVEL=0` });
      expect(make, openssl).not.toThrow();
    }
  });

  it('make contexts that OpenSSL takes, of every keyword that allows something', () => {
    for (const keyword of Object.keys(keywords)) {
      if (keyword === 'NONE') continue;
      const { ciphers: list, groups, minVersion, maxVersion } = x509(keyword);
      const options = { ciphers: list, ecdhCurve: groups, minVersion, maxVersion };
      expect(() => createSecureContext(options), keyword).not.toThrow();
    }
  });
});
