import { describe, expect, it, onTestFinished } from 'vitest';
import { errno } from '../../../src/base/errno.ts';
import { IoError } from '../../../src/base/errors.ts';
import { GatheringSender, MAX_PARTS } from '../../../src/sys/gathering-sender.ts';
import { allocate } from '../../../src/sys/memory.ts';
import { close, receive, socketPair, WOULD_BLOCK } from '../../../src/sys/socket.ts';

const memory = allocate(1 << 20);

function sockets(): readonly [number, number] {
  const pair = socketPair();
  onTestFinished(() => pair.forEach(close));
  return pair;
}

describe('GatheringSender', () => {
  it('sends from several places in the order in which they were added', () => {
    const [near, far] = sockets();
    const sender = new GatheringSender();
    for (let index = 0; index < MAX_PARTS; index++) {
      memory.bytes[index * 100] = index;
      memory.bytes[index * 100 + 1] = 255;
      sender.add(memory.address + index * 100, 2);
    }
    expect(sender.send(near)).toBe(2 * MAX_PARTS);
    expect(receive(far, memory.address + 65_536, 1000)).toBe(2 * MAX_PARTS);
    const received = [...memory.bytes.subarray(65_536, 65_536 + 2 * MAX_PARTS)];
    expect(received).toEqual(Array.from({ length: MAX_PARTS }, (_, at) => [at, 255]).flat());
  });

  it('forgets what it was given, whether that was taken or not', () => {
    const [near, far] = sockets();
    const sender = new GatheringSender();
    for (let taken = 0; taken !== WOULD_BLOCK; ) {
      sender.add(memory.address, 300_000);
      sender.add(memory.address, 300_000);
      taken = sender.send(near);
    }
    while (receive(far, memory.address, memory.bytes.length) !== WOULD_BLOCK);
    memory.bytes.write('left');
    sender.add(memory.address, 4);
    expect(sender.send(near)).toBe(4);
    expect(receive(far, memory.address, 100)).toBe(4);
  });

  it('says of a peer that is gone what went wrong', () => {
    const pair = socketPair();
    close(pair[1]);
    const sender = new GatheringSender();
    sender.add(memory.address, 1);
    sender.add(memory.address, 1);
    expect(() => sender.send(pair[0])).toThrow(new IoError(errno.EPIPE, { syscall: 'sendmsg' }));
    close(pair[0]);
  });
});
