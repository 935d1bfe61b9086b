// Messages that break a rule of the vhost-user protocol, each to a device that is in use. A frontend that asks for an
// acknowledgement is told of the failure and may go on; another loses its connection. Either way nothing of its descriptors stays
// and the next frontend is served as ever. Only ours: the reference dies of some of these.

import { closeSync, openSync } from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { connectFrontend, startDevice, type TestDevice, testCounter } from './device.ts';
import { GUEST_BASE } from './guest-memory.ts';
import { served } from './health.ts';
import {
  config,
  encode,
  memoryTable,
  NEED_REPLY,
  NO_DESCRIPTOR,
  REPLY,
  REQUEST,
  singleRegion,
  u64,
  VERSION,
  vringAddress,
  vringState,
} from './messages.ts';
import { ourSide, serveDisk } from './serve.ts';
import { createMemfd, MAX_DESCRIPTORS } from './shared-descriptors.ts';

const MIB = 1024 * 1024;
const none = Buffer.alloc(0);

interface Bad {
  readonly name: string;
  readonly request: number;
  readonly payload?: Uint8Array;
  readonly descriptors?: readonly number[];
}

function inflight(size: bigint, queues: number, queueSize: number): Buffer {
  const payload = Buffer.alloc(24);
  payload.writeBigUInt64LE(size, 0);
  payload.writeUInt16LE(queues, 16);
  payload.writeUInt16LE(queueSize, 18);
  return payload;
}

/** Every bad message, with the descriptors that come with it. */
function badMessages({ memory, disk }: TestDevice): readonly Bad[] {
  const counter = testCounter().fd;
  const { fd, ...region } = memory.main;
  const elsewhere = { ...region, guestAddress: GUEST_BASE + 64 * MIB };
  const file = openSync('/proc/self/exe', 'r');
  onTestFinished(() => closeSync(file));
  const short = createMemfd(4096, { sealed: false });
  onTestFinished(() => closeSync(short));
  const at = {
    descriptors: memory.userAddress(disk.queue.descriptors),
    used: memory.userAddress(disk.queue.used),
    available: memory.userAddress(disk.queue.available),
  };
  const behind = memory.userAddress(memory.main.length);
  const R = REQUEST;
  return [
    ...[0, 4095, 0x7fffffff, 0xffffffff].map((request) => ({
      name: `message ${request}, which does not exist`,
      request,
      payload: u64(1),
      descriptors: [counter],
    })),
    ...[none, Buffer.alloc(4), Buffer.alloc(7), Buffer.alloc(9)].flatMap((payload) =>
      [
        R.SET_FEATURES,
        R.SET_PROTOCOL_FEATURES,
        R.SET_VRING_NUM,
        R.SET_VRING_BASE,
        R.GET_VRING_BASE,
        R.SET_VRING_ENABLE,
        R.SET_VRING_ADDR,
        R.SET_VRING_KICK,
        R.SET_VRING_CALL,
        R.SET_VRING_ERR,
        R.SET_MEM_TABLE,
        R.ADD_MEM_REG,
        R.REM_MEM_REG,
        R.GET_CONFIG,
        R.SET_CONFIG,
        R.GET_INFLIGHT_FD,
        R.SET_INFLIGHT_FD,
      ].map((request) => ({
        name: `message ${request} of ${payload.length} bytes`,
        request,
        payload,
        descriptors: [counter],
      })),
    ),
    ...[R.GET_FEATURES, R.SET_OWNER, R.GET_QUEUE_NUM, R.GET_MAX_MEM_SLOTS].map((request) => ({
      name: `message ${request} with descriptors`,
      request,
      descriptors: [counter, counter, counter],
    })),
    {
      name: 'features not offered',
      request: R.SET_FEATURES,
      payload: u64((1n << 63n) | (1n << 32n)),
    },
    { name: 'a legacy device', request: R.SET_FEATURES, payload: u64(0) },
    {
      name: 'protocol features not offered',
      request: R.SET_PROTOCOL_FEATURES,
      payload: u64(1n << 62n),
    },
    ...[R.SET_VRING_NUM, R.SET_VRING_BASE, R.GET_VRING_BASE, R.SET_VRING_ENABLE].flatMap(
      (request) =>
        [1, 255, 0x80000000, 0xffffffff].map((index) => ({
          name: `message ${request} for queue ${index}`,
          request,
          payload: vringState(index, 1),
        })),
    ),
    ...[0, 3, 128, 65_536, 0xffffffff].map((size) => ({
      name: `a size of ${size} for a queue in use`,
      request: R.SET_VRING_NUM,
      payload: vringState(0, size),
    })),
    {
      name: 'a base for a queue in use',
      request: R.SET_VRING_BASE,
      payload: vringState(0, 7),
    },
    {
      name: 'an address for a queue that is not there',
      request: R.SET_VRING_ADDR,
      payload: vringAddress(1, at),
    },
    ...(['descriptors', 'used', 'available'] as const).flatMap((part) =>
      [0, at[part] + 1, behind, behind - 16, GUEST_BASE, 2 ** 63].map((address) => ({
        name: `${part} at ${address}`,
        request: R.SET_VRING_ADDR,
        payload: vringAddress(0, { ...at, [part]: address }),
      })),
    ),
    ...[R.SET_VRING_KICK, R.SET_VRING_CALL, R.SET_VRING_ERR].flatMap((request) => [
      { name: `message ${request} without a descriptor`, request, payload: u64(0) },
      {
        name: `message ${request} with two descriptors`,
        request,
        payload: u64(0),
        descriptors: [counter, counter],
      },
      {
        name: `message ${request} for queue 1`,
        request,
        payload: u64(1),
        descriptors: [counter],
      },
      {
        name: `message ${request} for queue 1, without a descriptor`,
        request,
        payload: u64(1n | NO_DESCRIPTOR),
      },
    ]),
    {
      name: 'a memory table with a descriptor too few',
      request: R.SET_MEM_TABLE,
      payload: memoryTable([region, elsewhere]),
      descriptors: [fd],
    },
    {
      name: 'a memory table with a descriptor too many',
      request: R.SET_MEM_TABLE,
      payload: memoryTable([region]),
      descriptors: [fd, fd],
    },
    ...[2, 0xffffffff].map((count) => {
      const payload = memoryTable([region]);
      payload.writeUInt32LE(count, 0);
      return {
        name: `a memory table that says it has ${count} regions`,
        request: R.SET_MEM_TABLE,
        payload,
        descriptors: [fd],
      };
    }),
    ...Object.entries({
      'of no bytes': { ...elsewhere, length: 0 },
      'longer than its file': { ...elsewhere, length: region.length + 4096 },
      'that begins behind its file': { ...elsewhere, offset: 64 * MIB },
      'as long as can be': { ...elsewhere, length: 2 ** 63 },
      'that ends beyond 64 bits of its file': { ...elsewhere, offset: 2 ** 63, length: 2 ** 63 },
      'that ends beyond 64 bits of guest addresses': { ...elsewhere, guestAddress: 2 ** 64 - 4096 },
      'over another one': { ...region, guestAddress: GUEST_BASE + 4096 },
    }).flatMap(([name, bad]) => [
      {
        name: `a memory region ${name}`,
        request: R.ADD_MEM_REG,
        payload: singleRegion(bad),
        descriptors: [fd],
      },
      {
        name: `a memory table with a region ${name}`,
        request: R.SET_MEM_TABLE,
        payload: memoryTable([region, bad]),
        descriptors: [fd, fd],
      },
    ]),
    ...Object.entries({
      'a counter': counter,
      'a file that is not writable': file,
      'a file that is too short': short,
    }).map(([name, descriptor]) => ({
      name: `${name} as memory`,
      request: R.ADD_MEM_REG,
      payload: singleRegion(elsewhere),
      descriptors: [descriptor],
    })),
    {
      name: 'a memory region without a descriptor',
      request: R.ADD_MEM_REG,
      payload: singleRegion(elsewhere),
    },
    {
      name: 'a memory region with two descriptors',
      request: R.ADD_MEM_REG,
      payload: singleRegion(elsewhere),
      descriptors: [fd, fd],
    },
    ...Object.entries({
      'that is not there': elsewhere,
      'that is longer': { ...region, length: region.length - 4096 },
      'that the frontend has elsewhere': { ...region, userAddress: region.userAddress + 4096 },
    }).map(([name, bad]) => ({
      name: `a memory region to remove ${name}`,
      request: R.REM_MEM_REG,
      payload: singleRegion(bad),
    })),
    ...[
      config(1, Buffer.from([1])),
      config(32, none),
      config(32, Buffer.from([1, 0])),
      config(0xffffffff, Buffer.from([1])),
      config(32, Buffer.from([1]), 1),
    ].map((payload) => ({
      name: `a configuration of ${payload.toString('hex')}`,
      request: R.SET_CONFIG,
      payload,
    })),
    {
      name: 'a configuration that is longer than its message',
      request: R.SET_CONFIG,
      payload: config(32, Buffer.alloc(100)).subarray(0, 13),
    },
    { name: 'a channel without a descriptor', request: R.SET_BACKEND_REQ_FD },
    ...[
      inflight(0n, 0, 128),
      inflight(0n, 2, 128),
      inflight(0n, 0xffff, 0xffff),
      inflight(0n, 1, 0),
    ].map((payload) => ({
      name: `an area for requests of ${payload.toString('hex')}`,
      request: R.GET_INFLIGHT_FD,
      payload,
    })),
    {
      name: 'an area for requests for a queue in use',
      request: R.SET_INFLIGHT_FD,
      payload: inflight(65_536n, 1, 128),
      descriptors: [fd],
    },
    {
      name: 'an area for requests without a descriptor',
      request: R.SET_INFLIGHT_FD,
      payload: inflight(65_536n, 1, 128),
    },
    {
      name: 'a kick counter that cannot be waited for',
      request: R.SET_VRING_KICK,
      payload: u64(0),
      descriptors: [file],
    },
  ];
}

/** Bytes that are no message at all: no version, another one, a reply, too long, as long as can be, and noise. */
const noMessages: readonly Uint8Array[] = [
  encode(REQUEST.GET_FEATURES, none, 0),
  encode(REQUEST.GET_FEATURES, none, 2),
  encode(REQUEST.GET_FEATURES, none, VERSION | REPLY),
  header(REQUEST.SET_MEM_TABLE, 4097),
  header(REQUEST.SET_CONFIG, 0xffffffff),
  Buffer.alloc(4096),
  Buffer.alloc(4096, 0xff),
];

function header(request: number, length: number): Buffer {
  const bytes = encode(request, none);
  bytes.writeUInt32LE(length, 8);
  return bytes;
}

describe('a frontend that breaks a rule of the protocol', () => {
  it('is told so when it asks for an acknowledgement, and may go on', async () => {
    const disk = await serveDisk(ourSide);
    const held = await served(disk);
    const device = await startDevice(disk.socket);
    for (const { name, request, payload = none, descriptors: sent = [] } of badMessages(device)) {
      const flags = VERSION | NEED_REPLY;
      device.frontend.send(request, payload, { flags, descriptors: sent });
      const reply = await device.frontend.receive();
      expect({ name, request: reply?.request, refused: refusal(reply?.payload) }).toEqual({
        name,
        request,
        refused: true,
      });
    }
    device.close();
    expect(await served(disk)).toEqual(held);
  });

  it('loses its connection when it does not', async () => {
    const disk = await serveDisk(ourSide);
    const held = await served(disk);
    // How a message is refused is the same for all: some of each kind will do.
    for (let each = 0; ; each += 4) {
      const device = await startDevice(disk.socket);
      const bad = badMessages(device)[each];
      if (bad === undefined) {
        device.close();
        break;
      }
      device.frontend.send(bad.request, bad.payload, { descriptors: bad.descriptors ?? [] });
      await device.frontend.ended;
      device.close();
    }
    expect(await served(disk)).toEqual(held);
  });

  it('loses its connection when it sends what is no message', async () => {
    const disk = await serveDisk(ourSide);
    const held = await served(disk);
    for (const bytes of noMessages) {
      const { frontend, memory } = await startDevice(disk.socket);
      frontend.sendBytes(bytes, [memory.main.fd]);
      await frontend.ended;
      frontend.close();
    }
    expect(await served(disk)).toEqual(held);
  });

  it('loses its connection when it sends more descriptors than any message has', async () => {
    const disk = await serveDisk(ourSide);
    const held = await served(disk);
    for (const count of [9, 17, MAX_DESCRIPTORS]) {
      const { frontend, memory } = await startDevice(disk.socket);
      const many = Array.from({ length: count }, () => memory.main.fd);
      frontend.send(REQUEST.SET_MEM_TABLE, memoryTable([memory.main]), { descriptors: many });
      await frontend.ended;
      frontend.close();
    }
    // A few with each byte come to as many.
    const { frontend, memory } = await startDevice(disk.socket);
    for (const byte of encode(REQUEST.SET_MEM_TABLE, memoryTable([memory.main]))) {
      const three = [memory.main.fd, memory.main.fd, memory.main.fd];
      if (!frontend.sendBytes(Buffer.from([byte]), three)) break;
    }
    await frontend.ended;
    expect(await served(disk)).toEqual(held);
  });

  it('may stop within a message, and leave', async () => {
    const disk = await serveDisk(ourSide);
    const held = await served(disk);
    const message = encode(REQUEST.SET_VRING_KICK, u64(0));
    for (const length of [1, 11, 12, 19]) {
      const { frontend, memory } = await startDevice(disk.socket);
      frontend.sendBytes(message.subarray(0, length), [memory.main.fd]);
      frontend.close();
    }
    expect(await served(disk)).toEqual(held);
  });

  it('may send a message byte by byte', async () => {
    const disk = await serveDisk(ourSide);
    const frontend = await connectFrontend(disk.socket);
    for (const byte of encode(REQUEST.GET_QUEUE_NUM, none)) frontend.sendBytes(Buffer.from([byte]));
    expect((await frontend.receive())?.payload.readBigUInt64LE()).toBe(1n);
  });

  it('cannot have more memory regions than there are slots', async () => {
    const disk = await serveDisk(ourSide);
    const { frontend, memory } = await startDevice(disk.socket);
    const add = (slot: number): Promise<bigint> => {
      const guestAddress = GUEST_BASE + slot * 64 * MIB;
      const userAddress = memory.main.userAddress + slot * 64 * MIB;
      const region = { ...memory.main, guestAddress, userAddress };
      return frontend.acknowledged(REQUEST.ADD_MEM_REG, singleRegion(region), [memory.main.fd]);
    };
    for (let slot = 1; slot < 32; slot++) expect(await add(slot)).toBe(0n);
    expect(await add(32)).not.toBe(0n);
    expect(await frontend.askNumber(REQUEST.GET_MAX_MEM_SLOTS)).toBe(32n);
  });
});

function refusal(payload: Buffer | undefined): boolean {
  return payload?.length === 8 && payload.readBigUInt64LE() !== 0n;
}
