// The messages of a frontend: a row states what comes with a message, and what is done about it; dispatch.ts enforces that.
// Payloads and meanings: "Vhost-user Protocol", section "Front-end message types".

import { ProtocolError } from '../../base/errors.ts';
import type { MaybePromise } from '../../base/io-buffer.ts';
import type { Message } from './connection.ts';
import {
  CONFIG_HEADER_SIZE,
  MAX_MEM_SLOTS,
  MAX_MESSAGE_FDS,
  MAX_PAYLOAD,
  VHOST_USER_ADD_MEM_REG,
  VHOST_USER_GET_CONFIG,
  VHOST_USER_GET_FEATURES,
  VHOST_USER_GET_INFLIGHT_FD,
  VHOST_USER_GET_MAX_MEM_SLOTS,
  VHOST_USER_GET_PROTOCOL_FEATURES,
  VHOST_USER_GET_QUEUE_NUM,
  VHOST_USER_GET_VRING_BASE,
  VHOST_USER_REM_MEM_REG,
  VHOST_USER_RESET_DEVICE,
  VHOST_USER_RESET_OWNER,
  VHOST_USER_SET_BACKEND_REQ_FD,
  VHOST_USER_SET_CONFIG,
  VHOST_USER_SET_FEATURES,
  VHOST_USER_SET_INFLIGHT_FD,
  VHOST_USER_SET_LOG_BASE,
  VHOST_USER_SET_LOG_FD,
  VHOST_USER_SET_MEM_TABLE,
  VHOST_USER_SET_OWNER,
  VHOST_USER_SET_PROTOCOL_FEATURES,
  VHOST_USER_SET_VRING_ADDR,
  VHOST_USER_SET_VRING_BASE,
  VHOST_USER_SET_VRING_CALL,
  VHOST_USER_SET_VRING_ENABLE,
  VHOST_USER_SET_VRING_ERR,
  VHOST_USER_SET_VRING_KICK,
  VHOST_USER_SET_VRING_NUM,
} from './protocol.ts';
import { RING_ALIGNMENT } from './ring-memory.ts';
import { PROTOCOL_FEATURES, type Session } from './session.ts';
import type { Vring } from './vring.ts';
import {
  decodeConfig,
  decodeInflight,
  decodeLogBase,
  decodeMemoryTable,
  decodeSingleRegion,
  decodeU64,
  decodeVringAddress,
  decodeVringFile,
  decodeVringState,
  encodeConfigAnswer,
  encodeInflight,
  encodeU64,
  encodeVringState,
} from './wire.ts';

/** What a message is answered with, and the file that goes with it. */
export interface Answer {
  readonly payload: Buffer;
  readonly fd?: number;
}

export interface MessageRow {
  readonly name: string;
  /** Bytes of payload, at least and at most. */
  readonly payload: readonly [least: number, most: number];
  /** Files, at most. */
  readonly files: number;
  /** Throws or rejects ProtocolError or IoError. */
  run(session: Session, message: Message): MaybePromise<Answer | undefined>;
}

const NOTHING = [0, MAX_PAYLOAD] as const;
const U64 = [8, 8] as const;
const CONFIG = [CONFIG_HEADER_SIZE, MAX_PAYLOAD] as const;
const INFLIGHT = [20, 24] as const;

export const messages: Readonly<Record<number, MessageRow>> = {
  [VHOST_USER_GET_FEATURES]: {
    name: 'GET_FEATURES',
    payload: NOTHING,
    files: 0,
    run: (session) => ({ payload: encodeU64(session.offeredFeatures) }),
  },
  [VHOST_USER_SET_FEATURES]: {
    name: 'SET_FEATURES',
    payload: U64,
    files: 0,
    run: (session, { payload }) => noAnswer(session.acceptFeatures(decodeU64(payload))),
  },
  [VHOST_USER_GET_PROTOCOL_FEATURES]: {
    name: 'GET_PROTOCOL_FEATURES',
    payload: NOTHING,
    files: 0,
    run: () => ({ payload: encodeU64(PROTOCOL_FEATURES) }),
  },
  [VHOST_USER_SET_PROTOCOL_FEATURES]: {
    name: 'SET_PROTOCOL_FEATURES',
    payload: U64,
    files: 0,
    run: (session, { payload }) => noAnswer(session.acceptProtocolFeatures(decodeU64(payload))),
  },
  [VHOST_USER_SET_OWNER]: {
    name: 'SET_OWNER',
    payload: NOTHING,
    files: 0,
    run: () => undefined,
  },
  [VHOST_USER_RESET_OWNER]: {
    name: 'RESET_OWNER',
    payload: NOTHING,
    files: 0,
    // Of old, and understood in more than one way: the specification has it ignored.
    run: () => undefined,
  },
  [VHOST_USER_RESET_DEVICE]: {
    name: 'RESET_DEVICE',
    payload: NOTHING,
    files: 0,
    run: (session) => after(session.reset()),
  },
  [VHOST_USER_SET_MEM_TABLE]: {
    name: 'SET_MEM_TABLE',
    payload: [8, MAX_PAYLOAD],
    files: MAX_MESSAGE_FDS,
    run: setMemTable,
  },
  [VHOST_USER_SET_LOG_BASE]: {
    name: 'SET_LOG_BASE',
    payload: [16, 16],
    files: 1,
    run(session, message) {
      session.setLog(decodeLogBase(message.payload), onlyFile(message));
      return { payload: encodeU64(0) };
    },
  },
  [VHOST_USER_SET_LOG_FD]: {
    name: 'SET_LOG_FD',
    payload: NOTHING,
    files: 1,
    run: (session, message) => noAnswer(session.setLogCall(takeFile(message))),
  },
  [VHOST_USER_GET_MAX_MEM_SLOTS]: {
    name: 'GET_MAX_MEM_SLOTS',
    payload: NOTHING,
    files: 0,
    run: () => ({ payload: encodeU64(MAX_MEM_SLOTS) }),
  },
  [VHOST_USER_ADD_MEM_REG]: {
    name: 'ADD_MEM_REG',
    payload: [40, 40],
    files: 1,
    run(session, message) {
      const region = decodeSingleRegion(message.payload);
      const fd = onlyFile(message);
      return after(session.changeMemory(() => session.memory.add(region, fd)));
    },
  },
  [VHOST_USER_REM_MEM_REG]: {
    name: 'REM_MEM_REG',
    payload: [40, 40],
    // Frontends of old send the region's file once more.
    files: 1,
    run(session, { payload }) {
      const region = decodeSingleRegion(payload);
      return after(session.changeMemory(() => session.memory.remove(region)));
    },
  },
  [VHOST_USER_GET_QUEUE_NUM]: {
    name: 'GET_QUEUE_NUM',
    payload: NOTHING,
    files: 0,
    run: ({ device }) => ({ payload: encodeU64(device.queues) }),
  },
  [VHOST_USER_SET_VRING_NUM]: {
    name: 'SET_VRING_NUM',
    payload: U64,
    files: 0,
    run(session, { payload }) {
      const { index, value } = decodeVringState(payload);
      return noAnswer(session.resize(session.vring(index), value));
    },
  },
  [VHOST_USER_SET_VRING_BASE]: {
    name: 'SET_VRING_BASE',
    payload: U64,
    files: 0,
    run(session, { payload }) {
      const { index, value } = decodeVringState(payload);
      return noAnswer(session.rebase(session.vring(index), value));
    },
  },
  [VHOST_USER_SET_VRING_ADDR]: {
    name: 'SET_VRING_ADDR',
    payload: [40, 40],
    files: 0,
    run: setVringAddress,
  },
  [VHOST_USER_GET_VRING_BASE]: {
    name: 'GET_VRING_BASE',
    payload: U64,
    files: 0,
    run: getVringBase,
  },
  [VHOST_USER_SET_VRING_KICK]: {
    name: 'SET_VRING_KICK',
    payload: U64,
    files: 1,
    run(session, message) {
      const { vring, fd } = vringFile(session, message);
      vring.start(fd);
      return noAnswer(session.serve());
    },
  },
  [VHOST_USER_SET_VRING_CALL]: {
    name: 'SET_VRING_CALL',
    payload: U64,
    files: 1,
    run(session, message) {
      const { vring, fd } = vringFile(session, message);
      return noAnswer(vring.setCall(fd));
    },
  },
  [VHOST_USER_SET_VRING_ERR]: {
    name: 'SET_VRING_ERR',
    payload: U64,
    files: 1,
    run(session, message) {
      const { vring, fd } = vringFile(session, message);
      return noAnswer(vring.setError(fd));
    },
  },
  [VHOST_USER_SET_VRING_ENABLE]: {
    name: 'SET_VRING_ENABLE',
    payload: U64,
    files: 0,
    run(session, { payload }) {
      const { index, value } = decodeVringState(payload);
      const vring = session.vring(index);
      vring.enabled = value !== 0;
      return noAnswer(session.serve());
    },
  },
  [VHOST_USER_SET_BACKEND_REQ_FD]: {
    name: 'SET_BACKEND_REQ_FD',
    payload: NOTHING,
    files: 1,
    run(session, message) {
      session.setBackendChannel(takeFile(message));
      return undefined;
    },
  },
  [VHOST_USER_GET_CONFIG]: {
    name: 'GET_CONFIG',
    payload: CONFIG,
    files: 0,
    run: getConfig,
  },
  [VHOST_USER_SET_CONFIG]: {
    name: 'SET_CONFIG',
    payload: CONFIG,
    files: 0,
    run: setConfig,
  },
  [VHOST_USER_GET_INFLIGHT_FD]: {
    name: 'GET_INFLIGHT_FD',
    payload: INFLIGHT,
    files: 0,
    run(session, { payload }) {
      const { area, fd } = session.createInflight(decodeInflight(payload));
      return { payload: encodeInflight(area), fd };
    },
  },
  [VHOST_USER_SET_INFLIGHT_FD]: {
    name: 'SET_INFLIGHT_FD',
    payload: INFLIGHT,
    files: 1,
    run: (session, message) =>
      noAnswer(session.adoptInflight(decodeInflight(message.payload), onlyFile(message))),
  },
};

/** As a log shows it. */
function nameOfMessage(request: number): string {
  return messages[request]?.name ?? `message ${request}`;
}

function setMemTable(session: Session, { payload, fds }: Message): MaybePromise<undefined> {
  const regions = decodeMemoryTable(payload);
  if (fds.length !== regions.length) {
    throw new ProtocolError('SET_MEM_TABLE files', fds.length, regions.length);
  }
  return after(session.changeMemory(() => session.memory.replace(regions, fds)));
}

function setVringAddress(session: Session, { payload }: Message): MaybePromise<undefined> {
  const address = decodeVringAddress(payload);
  const vring = session.vring(address.index);
  for (const [field, value, alignment] of [
    ['descriptor table address', address.descriptors, RING_ALIGNMENT.descriptors],
    ['used ring address', address.used, RING_ALIGNMENT.used],
    ['available ring address', address.available, RING_ALIGNMENT.available],
  ] as const) {
    if (value % alignment !== 0) {
      throw new ProtocolError(field, value, `a multiple of ${alignment}`);
    }
  }
  return after(
    session.changeMemory(() => {
      if (vring.size > 0 && vring.find(address) === undefined) {
        throw new ProtocolError('ring address', address.descriptors, 'one of a memory region');
      }
      vring.address = address;
    }),
  );
}

function getVringBase(session: Session, { payload }: Message): MaybePromise<Answer> {
  const { index } = decodeVringState(payload);
  const vring = session.vring(index);
  const answer = (): Answer => ({ payload: encodeVringState({ index, value: vring.base }) });
  const later = vring.stop();
  return later === undefined ? answer() : later.then(answer);
}

function getConfig({ device }: Session, { payload }: Message): Answer {
  const access = decodeConfig(payload);
  const config = device.config();
  // No payload at all says that there is no such part.
  if (access.offset + access.size > config.length) return { payload: Buffer.alloc(0) };
  const part = config.subarray(access.offset, access.offset + access.size);
  return { payload: encodeConfigAnswer(access, part) };
}

function setConfig({ device }: Session, { payload }: Message): undefined {
  const { flags, offset, size, bytes } = decodeConfig(payload);
  if (flags !== 0) throw new ProtocolError('SET_CONFIG flags', flags, 0);
  if (bytes.length !== size) throw new ProtocolError('SET_CONFIG size', size, bytes.length);
  if (!device.setConfig(offset, bytes)) {
    throw new ProtocolError('SET_CONFIG offset', offset, 'that of the cache mode, one byte');
  }
}

/** The ring that a message with a counter is about, and the counter, -1 for none: the caller's from now on. */
function vringFile(
  session: Session,
  message: Message,
): { readonly vring: Vring; readonly fd: number } {
  const { index, hasFd } = decodeVringFile(message.payload);
  const vring = session.vring(index);
  return { vring, fd: hasFd ? takeFile(message) : -1 };
}

function takeFile(message: Message): number {
  const fd = onlyFile(message);
  message.fds.length = 0;
  return fd;
}

/** The message's file; closed with the message. */
function onlyFile({ request, fds }: Message): number {
  const [fd] = fds;
  if (fd === undefined) throw new ProtocolError(`${nameOfMessage(request)} files`, 0, 1);
  return fd;
}

function noAnswer(_nothing?: void): undefined {
  return undefined;
}

function after(later: MaybePromise<void>): MaybePromise<undefined> {
  return later?.then(() => undefined);
}
