// What an NBD server with TLS allows before and under it.

import { type Case, type Step, scene } from '../../case.ts';
import {
  go,
  handshake,
  hello,
  NBD_OPT_ABORT,
  NBD_OPT_INFO,
  NBD_OPT_LIST,
  NBD_OPT_STARTTLS,
  NBD_OPT_STRUCTURED_REPLY,
  nbd,
  option,
} from '../../wire-steps.ts';
import { by, greeted, list, startTls, tlsStep } from './steps.ts';

const read: Step = { do: 'requests', on: 'c', requests: [{ type: 0, length: 16 }] };

export const before: readonly Case[] = [
  ...[NBD_OPT_LIST, NBD_OPT_INFO, NBD_OPT_STRUCTURED_REPLY, 4, 99].map((number) =>
    handshake(`option ${number} before TLS`, option('c', number), list()),
  ),
  handshake('go before TLS', go('c', 'n')),
  handshake('abort before TLS', option('c', NBD_OPT_ABORT), {
    do: 'bytes',
    on: 'c',
    bytes: new Uint8Array(),
    hears: 'the end',
  }),
  handshake('export name before TLS', { do: 'export name', on: 'c', name: 'n', zeroes: false }),
  handshake('starttls with data', option('c', NBD_OPT_STARTTLS, Buffer.from('x'))),
  scene('an old client before TLS', nbd(hello('c', 0), option('c', NBD_OPT_LIST))),
  greeted('something else after starttls', startTls(), {
    do: 'bytes',
    on: 'c',
    bytes: Buffer.from('GET / HTTP/1.0\r\n\r\n'),
    hears: 'the end',
  }),
  greeted('options in the clear behind starttls', {
    do: 'bytes',
    on: 'c',
    hears: 'the end',
    bytes: Buffer.from('IHAVEOPT\0\0\0\x05\0\0\0\0IHAVEOPT\0\0\0\x03\0\0\0\0'),
  }),
];

export const under: readonly Case[] = [
  ...(['TLSv1.2', 'TLSv1.3'] as const).map((version) =>
    greeted(
      `everything under ${version}`,
      startTls(),
      tlsStep({ certificate: 'client', version }),
      list(),
      go('c', 'n'),
      read,
    ),
  ),
  greeted('starttls twice', startTls(), by('client'), startTls(), list()),
  greeted(
    'starttls with data under TLS',
    startTls(),
    by('client'),
    option('c', NBD_OPT_STARTTLS, Buffer.from('x')),
    list(),
  ),
  greeted('a name that is not on the list', startTls(), by('client-denied'), list()),
  greeted('no certificate', startTls(), tlsStep(), list()),
  greeted('an expired certificate', startTls(), by('client-expired'), list()),
  greeted('a certificate of another authority', startTls(), by('client-other'), list()),
  greeted('a certificate for servers', startTls(), by('client-server'), list()),
  greeted('a revoked certificate', startTls(), by('client-revoked'), list()),
];
