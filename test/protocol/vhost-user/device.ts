// A vhost-user-blk device of a test: connected, brought up, ready for requests, and gone with the test.

import { onTestFinished } from 'vitest';
import { FEATURE, negotiate, shareMemory, startRing } from './bring-up.ts';
import { Frontend } from './frontend.ts';
import { GuestMemory, type MemoryOptions } from './guest-memory.ts';
import { type EventCounter, eventCounter } from './shared-descriptors.ts';
import { BlkQueue } from './virtio-blk.ts';
import { Virtqueue } from './virtqueue.ts';

export interface DeviceOptions {
  /** Queues to set up. Default: 1. */
  readonly queues?: number;
  readonly queueSize?: number;
  /** The index at which the rings begin. Default: 0. */
  readonly base?: number;
  /** Of the features offered, those to leave. */
  readonly without?: bigint;
  readonly memory?: MemoryOptions;
  /** Tell the memory in one SET_MEM_TABLE instead of one ADD_MEM_REG for each region. */
  readonly table?: boolean;
}

export interface TestDevice {
  readonly frontend: Frontend;
  readonly memory: GuestMemory;
  readonly features: bigint;
  readonly protocolFeatures: bigint;
  readonly disks: readonly BlkQueue[];
  /** The first queue. */
  readonly disk: BlkQueue;
  /** Ends the connection without a word, and gives back everything. Idempotent. */
  readonly close: () => void;
}

/** A connection that is closed with the test. */
export async function connectFrontend(path: string): Promise<Frontend> {
  const frontend = await Frontend.connect(path);
  onTestFinished(() => frontend.close());
  return frontend;
}

/** A guest's memory that goes with the test. */
export function guestMemory(options?: MemoryOptions): GuestMemory {
  const memory = new GuestMemory(options);
  onTestFinished(() => memory.close());
  return memory;
}

/** An event counter that is closed with the test. */
export function testCounter(): EventCounter {
  const counter = eventCounter();
  onTestFinished(() => counter.close());
  return counter;
}

/** Connects and brings up the device, ready for requests. */
export async function startDevice(path: string, options: DeviceOptions = {}): Promise<TestDevice> {
  const frontend = await connectFrontend(path);
  const { features, protocolFeatures } = await negotiate(frontend, options.without);
  const memory = guestMemory(options.memory);
  await shareMemory(frontend, memory, options.table);
  const disks: BlkQueue[] = [];
  for (let index = 0; index < (options.queues ?? 1); index++) {
    const queue = new Virtqueue(memory, {
      index,
      size: options.queueSize ?? 128,
      indirect: (features & FEATURE.INDIRECT_DESC) !== 0n,
      eventIndex: (features & FEATURE.EVENT_IDX) !== 0n,
    });
    if (options.base !== undefined) queue.startAt(options.base);
    disks.push(await startQueue(frontend, queue));
  }
  const [disk] = disks;
  if (disk === undefined) throw new Error('a device needs a queue');
  return {
    frontend,
    memory,
    features,
    protocolFeatures,
    disks,
    disk,
    close: () => {
      frontend.close();
      for (const { kick, call } of disks) {
        kick.close();
        call.close();
      }
      memory.close();
    },
  };
}

/** Sets up and enables a ring with counters that are closed with the test. */
export async function startQueue(frontend: Frontend, queue: Virtqueue): Promise<BlkQueue> {
  const counters = { kick: testCounter(), call: testCounter() };
  const disk = new BlkQueue(queue, { ...counters, poller: frontend.poller });
  await startRing(frontend, queue, counters);
  return disk;
}
