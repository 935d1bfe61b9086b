// OpenSSL, which the node executable contains and exports for native code: what a TLS session takes of it. Called straight, data
// are decrypted into the place where they are wanted and encrypted from where they lie; node:tls makes a buffer for each record.
// Objects are addresses here; who makes one frees it. https://docs.openssl.org/3.0/man3/

import { bindLazily, functionPointer } from './libc.ts';

const prototypes = {
  // contexts
  TLS_method: 'uintptr_t TLS_method()',
  SSL_CTX_new: 'uintptr_t SSL_CTX_new(uintptr_t)',
  SSL_CTX_free: 'void SSL_CTX_free(uintptr_t)',
  SSL_CTX_ctrl: 'int64_t SSL_CTX_ctrl(uintptr_t, int, int64_t, uintptr_t)',
  SSL_CTX_ctrlText: 'int64_t SSL_CTX_ctrl(uintptr_t, int, int64_t, str)',
  SSL_CTX_set_options: 'uint64_t SSL_CTX_set_options(uintptr_t, uint64_t)',
  SSL_CTX_set_num_tickets: 'int SSL_CTX_set_num_tickets(uintptr_t, size_t)',
  SSL_CTX_set_cipher_list: 'int SSL_CTX_set_cipher_list(uintptr_t, str)',
  SSL_CTX_set_ciphersuites: 'int SSL_CTX_set_ciphersuites(uintptr_t, str)',
  SSL_CTX_set_verify: 'void SSL_CTX_set_verify(uintptr_t, int, uintptr_t)',
  SSL_CTX_set_info_callback: 'void SSL_CTX_set_info_callback(uintptr_t, uintptr_t)',
  SSL_CTX_get_cert_store: 'uintptr_t SSL_CTX_get_cert_store(uintptr_t)',
  SSL_CTX_add_client_CA: 'int SSL_CTX_add_client_CA(uintptr_t, uintptr_t)',
  SSL_CTX_use_certificate: 'int SSL_CTX_use_certificate(uintptr_t, uintptr_t)',
  SSL_CTX_use_PrivateKey: 'int SSL_CTX_use_PrivateKey(uintptr_t, uintptr_t)',
  SSL_CTX_set0_tmp_dh_pkey: 'int SSL_CTX_set0_tmp_dh_pkey(uintptr_t, uintptr_t)',
  SSL_CTX_set_psk_server_callback: 'void SSL_CTX_set_psk_server_callback(uintptr_t, uintptr_t)',
  SSL_CTX_set_psk_client_callback: 'void SSL_CTX_set_psk_client_callback(uintptr_t, uintptr_t)',
  X509_STORE_add_cert: 'int X509_STORE_add_cert(uintptr_t, uintptr_t)',
  X509_free: 'void X509_free(uintptr_t)',
  EVP_PKEY_free: 'void EVP_PKEY_free(uintptr_t)',
  PEM_read_bio_X509: 'uintptr_t PEM_read_bio_X509(uintptr_t, uintptr_t, uintptr_t, uintptr_t)',
  PEM_read_bio_PrivateKey:
    'uintptr_t PEM_read_bio_PrivateKey(uintptr_t, uintptr_t, uintptr_t, str)',
  PEM_read_bio_Parameters: 'uintptr_t PEM_read_bio_Parameters(uintptr_t, uintptr_t)',
  // sessions
  SSL_new: 'uintptr_t SSL_new(uintptr_t)',
  SSL_free: 'void SSL_free(uintptr_t)',
  SSL_set_bio: 'void SSL_set_bio(uintptr_t, uintptr_t, uintptr_t)',
  SSL_set_accept_state: 'void SSL_set_accept_state(uintptr_t)',
  SSL_set_connect_state: 'void SSL_set_connect_state(uintptr_t)',
  SSL_do_handshake: 'int SSL_do_handshake(uintptr_t)',
  SSL_read: 'int SSL_read(uintptr_t, uintptr_t, int)',
  SSL_write: 'int SSL_write(uintptr_t, uintptr_t, int)',
  SSL_shutdown: 'int SSL_shutdown(uintptr_t)',
  SSL_get_error: 'int SSL_get_error(uintptr_t, int)',
  SSL_get_verify_result: 'int64_t SSL_get_verify_result(uintptr_t)',
  SSL_get0_peer_certificate: 'uintptr_t SSL_get0_peer_certificate(uintptr_t)',
  SSL_get0_verified_chain: 'uintptr_t SSL_get0_verified_chain(uintptr_t)',
  OPENSSL_sk_num: 'int OPENSSL_sk_num(uintptr_t)',
  OPENSSL_sk_value: 'uintptr_t OPENSSL_sk_value(uintptr_t, int)',
  i2d_X509: 'int i2d_X509(uintptr_t, void*)',
  // what sessions read from and write to
  BIO_s_mem: 'uintptr_t BIO_s_mem()',
  BIO_new: 'uintptr_t BIO_new(uintptr_t)',
  BIO_write: 'int BIO_write(uintptr_t, void*, int)',
  BIO_new_bio_pair: 'int BIO_new_bio_pair(void*, size_t, void*, size_t)',
  BIO_ctrl: 'int64_t BIO_ctrl(uintptr_t, int, int64_t, uintptr_t)',
  BIO_nwrite0: 'int BIO_nwrite0(uintptr_t, void*)',
  BIO_nwrite: 'int BIO_nwrite(uintptr_t, void*, int)',
  BIO_nread0: 'int BIO_nread0(uintptr_t, void*)',
  BIO_nread: 'int BIO_nread(uintptr_t, void*, int)',
  BIO_free: 'int BIO_free(uintptr_t)',
  // failures
  ERR_get_error: 'uint64_t ERR_get_error()',
  ERR_clear_error: 'void ERR_clear_error()',
  ERR_reason_error_string: 'str ERR_reason_error_string(uint64_t)',
} as const;

/** OpenSSL's functions, under their names. */
export const openssl = bindLazily(prototypes);

/** False in a program that has an OpenSSL of another kind or age, or none that it lets others use. */
export function hasOpenssl(): boolean {
  try {
    return openssl.SSL_get0_peer_certificate !== undefined;
  } catch {
    return false;
  }
}

/** An SSL_verify_cb to which every certificate is good: who asks looks at what was found afterwards. Made when first read. */
export const acceptAll = {
  get address(): number {
    const { address } = functionPointer('int (int, uintptr_t)', () => 1);
    Object.defineProperty(acceptAll, 'address', { value: address });
    return address;
  },
};

/** What went wrong first since ERR_clear_error(), in OpenSSL's words; empties the list of failures. */
export function opensslFailure(): string {
  const failure = openssl.ERR_get_error();
  openssl.ERR_clear_error();
  return (failure === 0 ? null : openssl.ERR_reason_error_string(failure)) ?? 'unknown failure';
}

/** The address that a function has put into `place`, of two words. */
export function addressIn(place: Uint32Array): number {
  return (place[0] as number) + (place[1] as number) * 2 ** 32;
}

/** Puts an address where a function looks for it. */
export function putAddress(place: Uint32Array, address: number): void {
  place[0] = address % 2 ** 32;
  place[1] = Math.floor(address / 2 ** 32);
}
