import { readFileSync } from 'node:fs';
import { describe, expect, it, vi } from 'vitest';
import { DaemonProcess } from '../conformance/daemon-process.ts';
import { encodeRequest, NbdPeer } from '../conformance/nbd-peer.ts';
import { ours } from '../conformance/side.ts';
import {
  FUA,
  goPayload,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_OPT_GO,
} from '../conformance/wire-steps.ts';
import { noRings } from '../helpers/io-uring.ts';
import { exported, serve } from '../interop/serve.ts';

const MIB = 1024 * 1024;
/** Of writes that are done beside the main thread. */
const LONG = 2 * MIB;

async function enter(socket: string): Promise<NbdPeer> {
  const peer = await NbdPeer.connect(socket);
  await peer.greet(3);
  peer.sendOption(NBD_OPT_GO, goPayload('ex', []));
  expect((await peer.optionReplies()).at(-1)).toBe('option 7 reply 0x1');
  return peer;
}

/** How acknowledged writes are made durable, and how requests to the file are made. */
const ways = [
  ...(['flush', 'FUA', 'writethrough'] as const).map((way) => ({ way, more: '' })),
  { way: 'flush', more: ',aio=threads' },
  // The kernel has to give us one.
  ...(noRings === undefined ? [{ way: 'flush', more: ',aio=io_uring' }] : []),
];

describe('SIGKILL', () => {
  for (const { way, more } of ways) {
    it(`leaves what was acknowledged with ${way} in the image${more}`, async () => {
      const args = exported('a.img', more);
      const served = await serve({
        files: [{ name: 'a.img', length: 16 * MIB, fill: [[8 * MIB, MIB, 0x99]] }],
        arguments:
          way === 'writethrough' ? [...args.slice(0, -1), `${args.at(-1)},writethrough=on`] : args,
      });
      const directory = served.daemon.directory;
      const peer = await enter(served.socket);
      const flags = way === 'FUA' ? FUA : 0;
      const writes = Array.from({ length: 200 }, (_, at) => ({
        type: NBD_CMD_WRITE,
        flags,
        offset: at * 32_768 + (at % 3) * 100,
        payload: Buffer.alloc(4096 + at, at + 1),
      }));
      for (let at = 0; at < 3; at++) {
        writes.push({
          type: NBD_CMD_WRITE,
          flags,
          offset: 9 * MIB + at * LONG,
          payload: Buffer.alloc(LONG, at + 100),
        });
      }
      const zero = { type: NBD_CMD_WRITE_ZEROES, flags, offset: 8 * MIB, length: 65_536 };
      const trim = { type: NBD_CMD_TRIM, flags, offset: 8 * MIB + 131_072, length: 65_536 };
      for (const answer of await peer.requests([...writes, zero, trim]))
        expect(answer).toBe('simple error 0');
      if (way === 'flush') {
        expect(await peer.requests([{ type: NBD_CMD_FLUSH }])).toEqual(['simple error 0']);
      }
      const image = served.path('a.img');
      served.daemon.child.kill('SIGKILL');
      await served.daemon.exited;
      peer.close();

      const bytes = readFileSync(image);
      for (const { offset, payload } of writes) {
        expect(bytes.compare(payload, 0, payload.length, offset, offset + payload.length)).toBe(0);
      }
      expect(bytes.subarray(8 * MIB, 8 * MIB + 65_536).every((byte) => byte === 0)).toBe(true);
      // Another daemon opens the image at once: no lock is left behind.
      const again = new DaemonProcess(ours(), {
        directory,
        arguments: ['--nbd-server', 'addr.type=unix,addr.path=@DIR@/nbd.sock', ...args],
      });
      await again.stdio?.negotiate();
      const reader = await enter(served.socket);
      expect(await reader.requests([{ type: NBD_CMD_READ, offset: 0, length: 4096 }])).toEqual([
        'simple error 0 4096 bytes of 0x1',
      ]);
      reader.close();
      expect(await again.stop()).toBe('<exit 0>');
      await served.stop();
    });
  }
});

describe('a client that vanishes', () => {
  it('in the middle of a payload leaves the image as it was', async () => {
    const served = await serve({
      files: [{ name: 'a.img', length: 8 * MIB, fill: [[0, 8 * MIB, 0x10]] }],
      arguments: exported('a.img'),
    });
    for (const sent of [0, 1, 511, 4096, 600_000, MIB - 1]) {
      const peer = await enter(served.socket);
      const whole = encodeRequest(
        { type: NBD_CMD_WRITE, offset: 0, payload: Buffer.alloc(MIB, 0xee) },
        1n,
      );
      peer.send(whole.subarray(0, 28 + sent));
      expect(await peer.listen('nothing', 30)).toEqual(['<nothing>']);
      peer.close();
    }
    // The daemon still serves, so it has seen all of them go.
    const peer = await enter(served.socket);
    expect(await peer.requests([{ type: NBD_CMD_READ, offset: 0, length: MIB }])).toEqual([
      `simple error 0 ${MIB} bytes of 0x10`,
    ]);
    peer.close();
    expect(readFileSync(served.path('a.img')).every((byte) => byte === 0x10)).toBe(true);
    expect(await served.stop()).toBe('<exit 0>');
  });

  it('without waiting for its answers costs nothing afterwards', async () => {
    const served = await serve({
      files: [{ name: 'a.img', length: 64 * MIB }],
      arguments: exported('a.img'),
    });
    const descriptors = served.daemon.openDescriptors();
    for (let round = 0; round < 30; round++) {
      const peer = await enter(served.socket);
      const reads = Array.from({ length: 50 }, (_, at) =>
        encodeRequest({ type: NBD_CMD_READ, offset: at * MIB, length: MIB }, BigInt(at)),
      );
      peer.send(Buffer.concat(reads));
      await peer.take(16);
      peer.close();
    }
    const peer = await enter(served.socket);
    expect(await peer.requests([{ type: NBD_CMD_READ, length: 4 }])).toEqual([
      'simple error 0 00000000',
    ]);
    peer.close();
    await served.qmp.expect('block-export-del', { id: 'e', mode: 'hard' });
    while (((await served.qmp.expect('query-block-exports')) as unknown[]).length > 0);
    await served.qmp.expect('blockdev-del', { 'node-name': 'f' });
    expect(served.daemon.openDescriptors()).toBeLessThanOrEqual(descriptors);
    expect(await served.stop()).toBe('<exit 0>');
  });

  it('cannot make memory grow by asking without reading', async () => {
    const served = await serve({
      files: [{ name: 'a.img', length: 64 * MIB }],
      arguments: exported('a.img'),
    });
    const before = served.daemon.residentKilobytes();
    const peers = await Promise.all(Array.from({ length: 6 }, async () => enter(served.socket)));
    const reads = Buffer.concat(
      Array.from({ length: 100 }, (_, at) =>
        encodeRequest({ type: NBD_CMD_READ, offset: 0, length: 32 * MIB }, BigInt(at)),
      ),
    );
    for (const peer of peers) {
      peer.pause();
      peer.send(reads);
    }
    const other = await enter(served.socket);
    for (let round = 0; round < 20; round++) {
      expect(await other.requests([{ type: NBD_CMD_READ, length: 4 }])).toEqual([
        'simple error 0 00000000',
      ]);
    }
    const grown = served.daemon.residentKilobytes() - before;
    // A reply of the largest size for each, and change.
    expect(grown).toBeLessThan(6 * 40 * 1024);
    for (const peer of [...peers, other]) peer.close();
    expect(await served.stop()).toBe('<exit 0>');
  });
});

describe('the handshake', () => {
  it('is cut off after handshake-max-seconds, and only the handshake', async () => {
    const served = await serve({
      files: [{ name: 'a.img', length: MIB }],
      arguments: exported('a.img'),
    });
    await served.qmp.expect('nbd-server-stop');
    await served.qmp.expect('nbd-server-start', {
      addr: { type: 'unix', data: { path: served.socket } },
      'handshake-max-seconds': 1,
    });
    await served.qmp.expect('block-export-add', {
      type: 'nbd',
      id: 'e',
      'node-name': 'f',
      name: 'ex',
    });
    // Again, where the machine stands still for that second.
    const through = await vi.waitFor(() => enter(served.socket), { timeout: 30_000 });
    const start = performance.now();
    const idle = await NbdPeer.connect(served.socket);
    const chatty = await NbdPeer.connect(served.socket);
    await chatty.greet(3);
    chatty.sendOption(3, new Uint8Array());
    await chatty.optionReplies();
    expect((await idle.listen('the end')).at(-1)).toBe('<closed>');
    expect((await chatty.listen('the end')).at(-1)).toBe('<closed>');
    const elapsed = performance.now() - start;
    expect(elapsed).toBeGreaterThan(990);
    // Not the 10 s that it is otherwise.
    expect(elapsed).toBeLessThan(9500);
    expect(await through.requests([{ type: NBD_CMD_READ, length: 4 }])).toEqual([
      'simple error 0 00000000',
    ]);
    through.close();
    expect(await served.stop()).toBe('<exit 0>');
  });
});

describe('nbd-server-stop', () => {
  it('returns though a client is in the middle of its handshake', async () => {
    const served = await serve({
      files: [{ name: 'a.img', length: MIB }],
      arguments: exported('a.img'),
    });
    const silent = await NbdPeer.connect(served.socket);
    const greeted = await NbdPeer.connect(served.socket);
    await greeted.greet(3);
    greeted.send(Buffer.from('IHAVEOPT'));
    await served.qmp.expect('nbd-server-stop');
    expect((await greeted.listen('the end')).at(-1)).toBe('<closed>');
    expect((await silent.listen('the end')).at(-1)).toBe('<closed>');
    await served.qmp.expect('query-block-exports');
    expect(await served.stop()).toBe('<exit 0>');
  });
});
