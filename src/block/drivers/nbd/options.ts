// What the user wants of an NBD node: the options as they are used, checked as the reference checks them.

import { NBD_MAX_STRING_SIZE } from '../../../net/nbd/protocol.ts';
import { tlsCredentials } from '../../../object/tls-creds.ts';
import { QmpError } from '../../../qapi/errors.ts';
import type { BlockdevOptionsNbd } from '../../../qapi/generated/types.ts';
import type { OpenContext } from '../../driver-context.ts';
import type { ServerTarget } from './handshake.ts';

export const ALLOCATION_DEPTH = 'qemu:allocation-depth';
const BASE_ALLOCATION = 'base:allocation';

export interface NbdOptions {
  readonly target: ServerTarget;
  /** The context that takes the place of base:allocation. */
  readonly dirtyBitmap: string | undefined;
  /** Milliseconds for which requests wait for a connection that is lost; 0: they do not. */
  readonly reconnectDelay: number;
  /** Milliseconds for which a first connection is tried for; 0: it is tried once. */
  readonly openTimeout: number;
}

/** Throws QmpError. */
export function nbdOptions(options: BlockdevOptionsNbd, context: OpenContext): NbdOptions {
  const name = Buffer.from(options.export ?? '');
  if (name.length > NBD_MAX_STRING_SIZE) {
    throw new QmpError('export name too long to send to server');
  }
  const tls = tlsOf(options, context);
  const dirtyBitmap = options['x-dirty-bitmap'];
  const wanted = Buffer.from(dirtyBitmap ?? BASE_ALLOCATION);
  if (wanted.length > NBD_MAX_STRING_SIZE) {
    throw new QmpError('x-dirty-bitmap query too long to send to server');
  }
  return {
    target: {
      address: options.server,
      fdsByNumber: context.fdsByNumber,
      wish: { name, context: wanted, tls: tls !== undefined },
      tls,
    },
    dirtyBitmap,
    reconnectDelay: milliseconds(options['reconnect-delay']),
    openTimeout: milliseconds(options['open-timeout']),
  };
}

function tlsOf(options: BlockdevOptionsNbd, context: OpenContext): ServerTarget['tls'] {
  const id = options['tls-creds'];
  if (id === undefined) return undefined;
  const { server } = options;
  const credentials = tlsCredentials(id, 'client', context.objects);
  const hostname = options['tls-hostname'] ?? (server.type === 'inet' ? server.host : undefined);
  return { credentials, hostname };
}

/** In milliseconds; node's timers know no more. */
const LONGEST_TIMER = 2 ** 31 - 1;

function milliseconds(seconds: number | undefined): number {
  return Math.min((seconds ?? 0) * 1000, LONGEST_TIMER);
}
