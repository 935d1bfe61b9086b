// The peers of the soak: well-behaved ones that check every byte, and hostile ones. Each does one round of what it does and
// leaves; a server that stops, or an export that goes, ends a round early.

import type { ConnectionOptions } from 'node:tls';
import { encodeRequest, NbdPeer } from '../conformance/nbd-peer.ts';
import {
  goPayload,
  metaPayload,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_OPT_GO,
  NBD_OPT_LIST,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STARTTLS,
  NBD_OPT_STRUCTURED_REPLY,
  u32,
} from '../conformance/wire-steps.ts';
import { mutated } from '../fuzz/budget.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const none = new Uint8Array();

/** Numbers between 0 and 1. */
export type Random = () => number;

const below = (random: Random, limit: number): number => Math.floor(random() * limit);

function pick<T>(random: Random, from: readonly T[]): T {
  return from[below(random, from.length)] as T;
}

/** How the server is reached. */
export interface Door {
  readonly socket: string;
  /** Who the peers are, when the server wants TLS. */
  readonly identity?: ConnectionOptions;
}

/** A peer in the negotiation: it has been greeted, and has begun TLS where that is asked for. */
async function greeted(door: Door): Promise<NbdPeer | undefined> {
  const peer = await NbdPeer.connect(door.socket);
  await peer.greet(3);
  if (door.identity === undefined) return peer;
  peer.sendOption(NBD_OPT_STARTTLS, none);
  const [answer] = await peer.optionReplies();
  if (answer === 'option 5 reply 0x1' && (await peer.startTls(door.identity)) !== '<no tls>') {
    return peer;
  }
  peer.close();
  return undefined;
}

async function entered(door: Door, name: string): Promise<NbdPeer | undefined> {
  const peer = await greeted(door);
  if (peer === undefined) return undefined;
  peer.sendOption(NBD_OPT_GO, goPayload(name, []));
  if ((await peer.optionReplies()).at(-1) === 'option 7 reply 0x1') return peer;
  peer.close();
  return undefined;
}

/** Writes to a range of its own and reads back what must be there. Throws when it is not. */
export async function wellBehaved(
  door: Door,
  range: { readonly offset: number; readonly length: number },
  random: Random,
): Promise<'served' | 'cut off'> {
  const peer = await entered(door, 'ex');
  if (peer === undefined) return 'cut off';
  try {
    for (let round = 0; round < 10; round++) {
      const length = 1 + below(random, pick(random, [600, 70 * KIB, range.length]));
      const offset = range.offset + below(random, range.length - length + 1);
      const byte = below(random, 256);
      const write = { type: NBD_CMD_WRITE, offset, payload: Buffer.alloc(length, byte) };
      const zero = { type: NBD_CMD_WRITE_ZEROES, offset, length };
      const isWrite = random() < 0.7;
      const [answer = ''] = await peer.requests([isWrite ? write : zero]);
      if (answer !== 'simple error 0') return cutOff(peer, answer);
      let bytes: Buffer;
      try {
        bytes = await peer.read(offset, length);
      } catch (error) {
        return cutOff(peer, String(error));
      }
      if (!bytes.equals(Buffer.alloc(length, isWrite ? byte : 0))) {
        throw new Error(`${length} bytes at ${offset} are not what was written`);
      }
    }
    const [flushed = ''] = await peer.requests([{ type: NBD_CMD_FLUSH }]);
    return flushed === 'simple error 0' ? 'served' : cutOff(peer, flushed);
  } finally {
    peer.close();
  }
}

/** No answer is fine only where the connection is gone. */
function cutOff(peer: NbdPeer, answer: string): 'cut off' {
  if (!peer.closed) throw new Error(`a well-behaved client is answered ${answer}`);
  return 'cut off';
}

const session = Buffer.concat([
  option(NBD_OPT_LIST, none),
  option(NBD_OPT_STRUCTURED_REPLY, none),
  option(NBD_OPT_SET_META_CONTEXT, metaPayload('ro', ['base:allocation'])),
  option(NBD_OPT_GO, goPayload('ro', [3, 1])),
  encodeRequest({ type: NBD_CMD_READ, length: 4096 }, 1n),
  encodeRequest({ type: 7, length: MIB }, 2n),
  encodeRequest({ type: NBD_CMD_WRITE, payload: Buffer.alloc(600, 1) }, 3n),
  encodeRequest({ type: NBD_CMD_TRIM, length: 600 }, 4n),
]);

function option(number: number, payload: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from('IHAVEOPT'), u32(number), u32(payload.length), payload]);
}

/** What a hostile peer does once it is connected; nothing of it can change the image: it knows only the read-only export. */
const attacks: readonly ((door: Door, random: Random) => Promise<NbdPeer | undefined>)[] = [
  async function garbage(door, random) {
    const peer = await NbdPeer.connect(door.socket);
    peer.send(noise(random));
    return peer;
  },
  async function garbageAfterGreeting(door, random) {
    const peer = await greeted(door);
    peer?.send(noise(random));
    return peer;
  },
  async function mutatedSession(door, random) {
    const peer = await greeted(door);
    peer?.send(mutated(session, session, random));
    return peer;
  },
  async function cutSession(door, random) {
    const peer = await greeted(door);
    peer?.send(session.subarray(0, below(random, session.length)));
    if (random() < 0.5) peer?.endSending();
    return peer;
  },
  async function optionFlood(door, random) {
    const peer = await greeted(door);
    if (random() < 0.5) peer?.pause();
    for (let count = 0; count < 3000; count++) peer?.sendOption(pick(random, [3, 5, 99]), none);
    return peer;
  },
  async function noTls(door, random) {
    const peer = await NbdPeer.connect(door.socket);
    await peer.greet(3);
    peer.sendOption(NBD_OPT_STARTTLS, none);
    await peer.optionReplies();
    peer.send(noise(random));
    return peer;
  },
  async function plainSession(door, random) {
    const peer = await NbdPeer.connect(door.socket);
    await peer.greet(3);
    peer.send(session);
    if (random() < 0.5) await peer.optionReplies();
    return peer;
  },
  async function slowReader(door, random) {
    const peer = await entered(door, 'ro');
    peer?.pause();
    for (let count = 0; count < 40; count++) {
      const length = 1 + below(random, pick(random, [KIB, MIB, 16 * MIB]));
      peer?.send(encodeRequest({ type: NBD_CMD_READ, length }, BigInt(count)));
    }
    return peer;
  },
  async function requestFlood(door, random) {
    const peer = await entered(door, 'ro');
    const type = pick(random, [NBD_CMD_READ, NBD_CMD_FLUSH, NBD_CMD_TRIM, 99]);
    const one = encodeRequest({ type, length: below(random, 4096) }, 1n);
    peer?.send(Buffer.concat(Array.from({ length: 5000 }, () => one)));
    return peer;
  },
  async function slowWriter(door, random) {
    const peer = await entered(door, 'ro');
    const length = below(random, 8 * MIB);
    peer?.send(encodeRequest({ type: NBD_CMD_WRITE, length }, 1n));
    peer?.send(Buffer.alloc(below(random, length + 1)));
    return peer;
  },
  async function giantLength(door, random) {
    const peer = await entered(door, 'ro');
    const type = below(random, 9);
    peer?.send(encodeRequest({ type, offset: 2 ** 52, length: 0xffff_ffff }, 1n));
    return peer;
  },
];

function noise(random: Random): Buffer {
  return Buffer.from(Array.from({ length: 3000 }, () => below(random, 256)));
}

/** Does one hostile thing, stays for a moment, and is gone. */
export async function hostile(door: Door, random: Random): Promise<void> {
  const peer = await pick(random, attacks)(door, random);
  if (peer === undefined) return;
  if (random() < 0.6) await peer.listen('nothing', below(random, 300));
  peer.close();
}
