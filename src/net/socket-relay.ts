// Node has handles for TCP and unix sockets only. For a connection of another kind, vsock, it gets one end of a socket pair, and
// what lies between the other end and the connection carries the bytes both ways.

import { Socket } from 'node:net';
import { Duplex, pipeline } from 'node:stream';
import type { IoBuffer } from '../base/io-buffer.ts';
import { ioBufferOver } from '../sys/memory.ts';
import { getSocketOption, SOCK_STREAM, socketPair } from '../sys/socket.ts';
import { WOULD_BLOCK } from './byte-channel.ts';
import type { SocketChannel } from './socket-channel.ts';

/** Bytes received at once. */
const CHUNK_BYTES = 64 * 1024;

/** A descriptor that node can own, for the connection, which is the caller's no more. The last bytes pass before either ends. */
export function descriptorForNode(plain: SocketChannel): number {
  return isKnownToNode(plain) ? plain.detach() : relay(plain);
}

function isKnownToNode({ fd, local }: SocketChannel): boolean {
  const { family } = local;
  if (family === 'vsock' || family === 'other') return false;
  return getSocketOption(fd, 'SO_TYPE') === SOCK_STREAM;
}

function relay(plain: SocketChannel): number {
  const [inner, outer] = socketPair();
  const far = streamOver(plain);
  const near = new Socket({ fd: outer, allowHalfOpen: true });
  // Whatever ends one direction ends the other, in its time; what went wrong is seen by who owns the inner end.
  pipeline(far, near, () => {});
  pipeline(near, far, () => {});
  return inner;
}

/** The connection as a stream: when that is destroyed, the descriptor is closed. */
function streamOver(channel: SocketChannel): Duplex {
  const input = ioBufferOver(Buffer.allocUnsafeSlow(CHUNK_BYTES));
  let output: { readonly buffer: IoBuffer; at: number; readonly done: () => void } | undefined;
  const stream = new Duplex({
    read: () => channel.wantReadable(true),
    write: (chunk: Buffer, _encoding, done) => {
      output = { buffer: ioBufferOver(chunk), at: 0, done };
      guarded(send);
    },
    final: (done) => {
      channel.shutdown();
      done();
    },
    destroy: (error, done) => {
      channel.close();
      done(error);
    },
  });
  channel.onReadable = () => guarded(receive);
  channel.onWritable = () => guarded(send);
  return stream;

  function receive(): void {
    const length = channel.receive(input, 0, CHUNK_BYTES);
    if (length === WOULD_BLOCK) return;
    const more = stream.push(length === 0 ? null : Buffer.from(input.bytes.subarray(0, length)));
    if (length === 0 || !more) channel.wantReadable(false);
  }

  function send(): void {
    while (output !== undefined) {
      const left = output.buffer.bytes.length - output.at;
      const sent = left === 0 ? 0 : channel.send(output.buffer, output.at, left);
      if (sent === WOULD_BLOCK) {
        channel.wantWritable(true);
        return;
      }
      output.at += sent;
      if (sent < left) continue;
      const { done } = output;
      output = undefined;
      channel.wantWritable(false);
      done();
    }
  }

  function guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      stream.destroy(error as Error);
    }
  }
}
