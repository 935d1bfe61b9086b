// The filter `throttle`: holds requests back as long as the limits of a throttle-group say. Discards and zeroes count as
// writes of that many bytes; flushes are not limited.

import type { MaybePromise } from '../../base/io-buffer.ts';
import { type Direction, READ, WRITE } from '../../object/throttle-buckets.ts';
import { throttleGroup } from '../../object/throttle-group.ts';
import type { ThrottleMember, ThrottleQueue } from '../../object/throttle-queue.ts';
import { type ObjectLookup, stateOf } from '../../object/user-object.ts';
import { QmpError } from '../../qapi/errors.ts';
import type { BlockdevOptionsThrottle } from '../../qapi/generated/types.ts';
import { type BlockDriver, WRITE_COMPRESSED, WRITE_UNCHANGED } from '../block-driver.ts';
import type { BlockNode } from '../block-node.ts';
import { filteredChild, openFiltered, passThrough } from '../filter.ts';

export interface ThrottleState {
  readonly objects: ObjectLookup;
  queue: ThrottleQueue;
  member: ThrottleMember;
}

type ThrottleNode = BlockNode<ThrottleState>;

export const throttle: BlockDriver<ThrottleState, BlockdevOptionsThrottle> = {
  name: 'throttle',
  kind: 'filter',
  strongOptions: ['throttle-group'],

  async open(node, options, context) {
    const file = await openFiltered(options, context);
    node.supportedWriteFlags = file.node.supportedWriteFlags | WRITE_UNCHANGED;
    node.supportedZeroFlags = file.node.supportedZeroFlags | WRITE_UNCHANGED;
    const { objects } = context;
    const queue = groupOf(options, objects);
    return { objects, queue, member: queue.join() };
  },
  close({ state: { queue, member } }) {
    queue.leave(member);
  },
  changeableOptions: ['throttle-group'],
  reopen(node, options) {
    const next = groupOf(options, node.state.objects);
    return {
      commit() {
        const { state } = node;
        if (next === state.queue) return;
        state.queue.leave(state.member);
        state.queue = next;
        state.member = next.join();
        if (node.drained > 0) next.exempt(state.member);
      },
    };
  },
  drainBegin({ state: { queue, member } }) {
    queue.exempt(member);
  },
  drainEnd({ state: { queue, member } }) {
    queue.limit(member);
  },

  length: passThrough.length,
  read(node, offset, length, into, at, flags) {
    const file = filteredChild(node);
    const wait = admit(node, READ, length);
    if (wait === undefined) return file.read(offset, length, into, at, flags);
    return wait.then(() => file.read(offset, length, into, at, flags));
  },
  write(node, offset, length, from, at, flags) {
    const file = filteredChild(node);
    const wait = admit(node, WRITE, length);
    if (wait === undefined) return file.write(offset, length, from, at, flags);
    return wait.then(() => file.write(offset, length, from, at, flags));
  },
  writeCompressed(node, offset, length, from, at) {
    const file = filteredChild(node);
    const wait = admit(node, WRITE, length);
    if (wait === undefined) return file.write(offset, length, from, at, WRITE_COMPRESSED);
    return wait.then(() => file.write(offset, length, from, at, WRITE_COMPRESSED));
  },
  writeZeroes(node, offset, length, flags) {
    const file = filteredChild(node);
    const wait = admit(node, WRITE, length);
    if (wait === undefined) return file.writeZeroes(offset, length, flags);
    return wait.then(() => file.writeZeroes(offset, length, flags));
  },
  discard(node, offset, length) {
    const file = filteredChild(node);
    const wait = admit(node, WRITE, length);
    if (wait === undefined) return file.discard(offset, length);
    return wait.then(() => file.discard(offset, length));
  },
};

function admit({ state }: ThrottleNode, direction: Direction, length: number): MaybePromise<void> {
  return state.queue.admit(state.member, direction, length);
}

/** Throws QmpError. */
function groupOf(options: BlockdevOptionsThrottle, objects: ObjectLookup): ThrottleQueue {
  const name = options['throttle-group'];
  const object = objects.find(name);
  const queue = object === undefined ? undefined : stateOf(object, throttleGroup);
  if (queue === undefined) throw new QmpError(`Throttle group '${name}' does not exist`);
  return queue;
}
