// A process of its own that floods an NBD server until it is killed, so that a flood does not compete with the client that is
// measured for one thread. `flood.ts SOCKET KIND`; says `flooding` once answers come back.

import { connect } from 'node:net';
import { fileURLToPath } from 'node:url';
import { encodeRequest } from '../conformance/nbd-peer.ts';
import {
  goPayload,
  metaPayload,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_OPT_GO,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STRUCTURED_REPLY,
  u32,
} from '../conformance/wire-steps.ts';

export const floodPath = fileURLToPath(import.meta.url);

const KIB = 1024;
const NBD_CMD_BLOCK_STATUS = 7;
const none = new Uint8Array();

const option = (number: number, payload: Uint8Array): Buffer =>
  Buffer.concat([Buffer.from('IHAVEOPT'), u32(number), u32(payload.length), payload]);
const times = (count: number, bytes: Uint8Array): Buffer =>
  Buffer.concat(Array.from({ length: count }, () => bytes));

/** What is sent once, and what is sent for ever after it. */
const floods = {
  'unknown options': { first: none, again: times(2000, option(99, none)) },
  'options with data': { first: none, again: option(99, Buffer.alloc(1024 * KIB)) },
  NBD_OPT_LIST: { first: none, again: times(2000, option(3, none)) },
  reads: {
    first: option(NBD_OPT_GO, goPayload('ex', [])),
    again: times(1000, encodeRequest({ type: NBD_CMD_READ, length: 4 * KIB }, 1n)),
  },
  'large reads': {
    first: option(NBD_OPT_GO, goPayload('ex', [])),
    again: times(100, encodeRequest({ type: NBD_CMD_READ, length: 32 * KIB * KIB }, 1n)),
  },
  'large writes': {
    first: option(NBD_OPT_GO, goPayload('ex', [])),
    again: Buffer.from(
      encodeRequest({ type: NBD_CMD_WRITE, payload: Buffer.alloc(KIB * KIB, 7) }, 1n),
    ),
  },
  flushes: {
    first: option(NBD_OPT_GO, goPayload('ex', [])),
    again: times(1000, encodeRequest({ type: NBD_CMD_FLUSH }, 1n)),
  },
  'status requests': {
    first: Buffer.concat([
      option(NBD_OPT_STRUCTURED_REPLY, none),
      option(NBD_OPT_SET_META_CONTEXT, metaPayload('ex', ['base:allocation'])),
      option(NBD_OPT_GO, goPayload('ex', [])),
    ]),
    again: times(1000, encodeRequest({ type: NBD_CMD_BLOCK_STATUS, length: 2 ** 26 }, 1n)),
  },
  errors: {
    first: Buffer.concat([
      option(NBD_OPT_STRUCTURED_REPLY, none),
      option(NBD_OPT_GO, goPayload('ex', [])),
    ]),
    again: times(1000, encodeRequest({ type: NBD_CMD_READ, offset: 2 ** 40, length: 512 }, 1n)),
  },
} as const;

const CONNECTIONS = 'connections';
export type FloodKind = keyof typeof floods | typeof CONNECTIONS;
export const floodKinds = [...(Object.keys(floods) as FloodKind[]), CONNECTIONS] as const;

/** Connects, and leaves once greeted, two at a time. */
function comeAndGo(path: string): void {
  const once = (): void => {
    const socket = connect(path);
    socket.on('error', () => {});
    socket.on('data', () => socket.destroy());
    socket.on('close', once);
  };
  once();
  once();
  setTimeout(() => console.log('flooding'), 20);
}

function flood(path: string, kind: keyof typeof floods): void {
  const { first, again } = floods[kind];
  const socket = connect(path);
  socket.on('error', () => process.exit(1));
  socket.write(u32(3));
  socket.write(first);
  const send = (): void => {
    while (socket.write(again)) {
      // As much as the socket takes.
    }
  };
  socket.on('drain', send);
  send();
  let received = 0;
  socket.on('data', (bytes) => {
    if (received < 200 && received + bytes.length >= 200) console.log('flooding');
    received += bytes.length;
  });
}

if (process.argv[1] === floodPath) {
  const [, , path = '', kind = ''] = process.argv;
  if (kind === CONNECTIONS) comeAndGo(path);
  else flood(path, kind as keyof typeof floods);
}
