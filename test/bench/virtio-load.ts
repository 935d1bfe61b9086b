// A guest's driver that does nothing but keep a queue of a vhost-user-blk device filled with 4 KiB requests at random places.

import { READABLE } from '../../src/sys/poller.ts';
import { negotiate, readConfig, shareMemory, startRing } from '../protocol/vhost-user/bring-up.ts';
import { Frontend } from '../protocol/vhost-user/frontend.ts';
import { GuestMemory } from '../protocol/vhost-user/guest-memory.ts';
import { config, REQUEST } from '../protocol/vhost-user/messages.ts';
import { type EventCounter, eventCounter } from '../protocol/vhost-user/shared-descriptors.ts';
import { BLK_S, BLK_T, SECTOR } from '../protocol/vhost-user/virtio-blk.ts';
import { type Piece, Virtqueue } from '../protocol/vhost-user/virtqueue.ts';

const BLOCK = 4096;
const HEADER = 16;
/** Where the cache mode is in the device's configuration. */
const WRITE_CACHE = 32;

export interface VirtioJob {
  readonly rw: 'randread' | 'randwrite';
  readonly depth: number;
  readonly seconds: number;
}

/** A request's place in guest memory, used again and again. */
interface Slot {
  readonly header: number;
  readonly status: number;
  readonly pieces: readonly Piece[];
}

/** Runs the job against the backend on this socket: requests a second. Throws when a request fails. */
export async function virtioLoad(socket: string, job: VirtioJob): Promise<number> {
  const frontend = await Frontend.connect(socket);
  const memory = new GuestMemory();
  const counters = { kick: eventCounter(), call: eventCounter() };
  try {
    await negotiate(frontend);
    await shareMemory(frontend, memory);
    // Writes are to be compared, not how they are made durable: a guest that wants that flushes.
    frontend.send(REQUEST.SET_CONFIG, config(WRITE_CACHE, Buffer.from([1])));
    const queue = new Virtqueue(memory, { indirect: true, eventIndex: true });
    await startRing(frontend, queue, counters);
    const capacity = (await readConfig(frontend))?.readBigUInt64LE() ?? 0n;
    return await keepBusy({ frontend, memory, queue, counters, job, sectors: Number(capacity) });
  } finally {
    frontend.close();
    counters.kick.close();
    counters.call.close();
    memory.close();
  }
}

interface Work {
  readonly frontend: Frontend;
  readonly memory: GuestMemory;
  readonly queue: Virtqueue;
  readonly counters: { readonly kick: EventCounter; readonly call: EventCounter };
  readonly job: VirtioJob;
  readonly sectors: number;
}

async function keepBusy(work: Work): Promise<number> {
  const { frontend, memory, queue, counters, job, sectors } = work;
  const blocks = (sectors * SECTOR) / BLOCK;
  const { view } = memory;
  const slots: Slot[] = [];
  const submit = (slot: Slot): void => {
    view.setUint32(slot.header + 8, Math.floor(Math.random() * blocks) * (BLOCK / SECTOR), true);
    slots[queue.add(slot.pieces)] = slot;
  };
  const kick = (): void => {
    if (queue.needsKick()) counters.kick.signal();
  };
  const start = performance.now();
  const end = start + job.seconds * 1000;
  let done = 0;
  return new Promise<number>((resolve, reject) => {
    const take = (head: number): void => {
      done++;
      const slot = slots[head];
      if (slot === undefined || view.getUint8(slot.status) !== BLK_S.OK) {
        reject(new Error(`request ${done} failed`));
        return;
      }
      submit(slot);
    };
    const watch = frontend.poller.watch(counters.call.fd, () => {
      counters.call.take();
      queue.reap(take);
      kick();
      const now = performance.now();
      if (now < end) return;
      watch.close();
      resolve((done / (now - start)) * 1000);
    });
    watch.want(READABLE);
    void frontend.ended.then(() => reject(new Error('the backend hung up')));
    for (let each = 0; each < job.depth; each++) submit(newSlot(memory, job));
    kick();
  });
}

function newSlot(memory: GuestMemory, job: VirtioJob): Slot {
  const header = memory.allocate(HEADER);
  const data = memory.allocate(BLOCK, BLOCK);
  const status = memory.allocate(1);
  const reads = job.rw === 'randread';
  memory.bytes.fill(0, header, header + HEADER).writeUInt32LE(reads ? BLK_T.IN : BLK_T.OUT, header);
  return {
    header,
    status,
    pieces: [
      { address: memory.guestAddress(header), length: HEADER, writable: false },
      { address: memory.guestAddress(data), length: BLOCK, writable: reads },
      { address: memory.guestAddress(status), length: 1, writable: true },
    ],
  };
}
