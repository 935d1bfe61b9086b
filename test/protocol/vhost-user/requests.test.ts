import { describe, expect, it } from 'vitest';
import { FEATURE } from './bring-up.ts';
import { startDevice } from './device.ts';
import { numbered, serveDisk, sides } from './serve.ts';
import {
  BLK_S,
  BLK_T,
  type BlkQueue,
  type BlkRequest,
  range,
  SECTOR,
  UNMAP,
} from './virtio-blk.ts';

const { OK, IOERR, UNSUPP } = BLK_S;
const KIB = 1024;
const MIB = 1024 * KIB;
const SECTORS = MIB / SECTOR;

/** A request on a disk of 1 MiB, and what becomes of it. */
interface Case {
  readonly name: string;
  readonly request: BlkRequest;
  readonly status: number;
}

const sector = Buffer.alloc(SECTOR, 0xee);

const requests: readonly Case[] = [
  { name: 'IN', request: { type: BLK_T.IN, sector: 4, inLength: SECTOR }, status: OK },
  { name: 'IN of nothing', request: { type: BLK_T.IN }, status: OK },
  {
    name: 'IN of the last sector',
    request: { type: BLK_T.IN, sector: SECTORS - 1, inLength: SECTOR },
    status: OK,
  },
  {
    name: 'IN across the end',
    request: { type: BLK_T.IN, sector: SECTORS - 1, inLength: 2 * SECTOR },
    status: IOERR,
  },
  {
    name: 'IN behind the end',
    request: { type: BLK_T.IN, sector: SECTORS, inLength: SECTOR },
    status: IOERR,
  },
  {
    name: 'IN at the end, of nothing',
    request: { type: BLK_T.IN, sector: SECTORS },
    status: OK,
  },
  {
    name: 'IN of half a sector',
    request: { type: BLK_T.IN, inLength: 256 },
    status: IOERR,
  },
  {
    name: 'IN at a sector whose offset is beyond 64 bits',
    request: { type: BLK_T.IN, sector: 1n << 55n, inLength: SECTOR },
    status: IOERR,
  },
  {
    name: 'IN at the largest sector',
    request: { type: BLK_T.IN, sector: (1n << 64n) - 1n, inLength: SECTOR },
    status: IOERR,
  },
  {
    name: 'IN with the barrier bit of old',
    request: { type: BLK_T.IN + BLK_T.BARRIER, inLength: SECTOR },
    status: OK,
  },
  { name: 'OUT', request: { type: BLK_T.OUT, sector: 9, out: sector }, status: OK },
  {
    name: 'OUT with the barrier bit of old',
    request: { type: BLK_T.OUT + BLK_T.BARRIER, sector: 9, out: sector },
    status: OK,
  },
  { name: 'OUT of nothing', request: { type: BLK_T.OUT }, status: OK },
  {
    name: 'OUT across the end',
    request: { type: BLK_T.OUT, sector: SECTORS - 1, out: Buffer.alloc(2 * SECTOR) },
    status: IOERR,
  },
  {
    name: 'OUT of one byte less than a sector',
    request: { type: BLK_T.OUT, out: Buffer.alloc(SECTOR - 1) },
    status: IOERR,
  },
  { name: 'FLUSH', request: { type: BLK_T.FLUSH }, status: OK },
  {
    name: 'FLUSH with a sector, which means nothing',
    request: { type: BLK_T.FLUSH, sector: 1n << 60n },
    status: OK,
  },
  { name: 'GET_ID', request: { type: BLK_T.GET_ID, inLength: 20 }, status: OK },
  {
    name: 'DISCARD',
    request: { type: BLK_T.DISCARD, out: range(4 * KIB, 4 * KIB) },
    status: OK,
  },
  { name: 'DISCARD of nothing', request: { type: BLK_T.DISCARD, out: range(0, 0) }, status: OK },
  {
    name: 'DISCARD across the end',
    request: { type: BLK_T.DISCARD, out: range(MIB - 4 * KIB, 8 * KIB) },
    status: IOERR,
  },
  {
    name: 'DISCARD with the flag that is for zeroes',
    request: { type: BLK_T.DISCARD, out: range(0, 4 * KIB, UNMAP) },
    status: UNSUPP,
  },
  {
    name: 'DISCARD with an unknown flag',
    request: { type: BLK_T.DISCARD, out: range(0, 4 * KIB, 2) },
    status: UNSUPP,
  },
  {
    name: 'DISCARD of more sectors than the configuration says',
    request: { type: BLK_T.DISCARD, out: range(0, 32769 * SECTOR) },
    status: IOERR,
  },
  {
    name: 'DISCARD of the most sectors a field holds',
    request: { type: BLK_T.DISCARD, out: range(0, 0xffffffff * SECTOR) },
    status: IOERR,
  },
  {
    name: 'DISCARD with two ranges',
    request: {
      type: BLK_T.DISCARD,
      out: Buffer.concat([range(0, 4 * KIB), range(8 * KIB, 4 * KIB)]),
    },
    status: UNSUPP,
  },
  {
    name: 'DISCARD with a range and a byte',
    request: { type: BLK_T.DISCARD, out: Buffer.alloc(17) },
    status: UNSUPP,
  },
  {
    name: 'DISCARD with less than a range',
    request: { type: BLK_T.DISCARD, out: Buffer.alloc(15) },
    status: IOERR,
  },
  { name: 'DISCARD without a range', request: { type: BLK_T.DISCARD }, status: IOERR },
  {
    name: 'WRITE_ZEROES',
    request: { type: BLK_T.WRITE_ZEROES, out: range(16 * KIB, 8 * KIB) },
    status: OK,
  },
  {
    name: 'WRITE_ZEROES that may unmap',
    request: { type: BLK_T.WRITE_ZEROES, out: range(32 * KIB, 8 * KIB, UNMAP) },
    status: OK,
  },
  {
    name: 'WRITE_ZEROES with an unknown flag',
    request: { type: BLK_T.WRITE_ZEROES, out: range(0, 4 * KIB, 3) },
    status: UNSUPP,
  },
  {
    name: 'WRITE_ZEROES across the end',
    request: { type: BLK_T.WRITE_ZEROES, out: range(MIB - 4 * KIB, 8 * KIB) },
    status: IOERR,
  },
  {
    name: 'WRITE_ZEROES across the end with an unknown flag',
    request: { type: BLK_T.WRITE_ZEROES, out: range(MIB - 4 * KIB, 8 * KIB, 2) },
    status: IOERR,
  },
  {
    name: 'WRITE_ZEROES of more sectors than the configuration says',
    request: { type: BLK_T.WRITE_ZEROES, out: range(0, 32769 * SECTOR) },
    status: IOERR,
  },
  { name: 'SCSI_CMD of old', request: { type: 2 }, status: UNSUPP },
  {
    name: 'GET_LIFETIME',
    request: { type: BLK_T.GET_LIFETIME, inLength: 8 },
    status: UNSUPP,
  },
  {
    name: 'SECURE_ERASE',
    request: { type: BLK_T.SECURE_ERASE, out: range(0, 4 * KIB) },
    status: UNSUPP,
  },
  { name: 'a type nobody has', request: { type: 0x7fff_ffff, inLength: 5 }, status: UNSUPP },
];

/** Features left out: how a driver of old or a lazy one would use the ring. */
const rings = [
  { name: 'indirect descriptors and the event index', without: 0n },
  { name: 'indirect descriptors', without: FEATURE.EVENT_IDX },
  { name: 'the event index', without: FEATURE.INDIRECT_DESC },
  { name: 'neither', without: FEATURE.EVENT_IDX | FEATURE.INDIRECT_DESC },
] as const;

describe.each(sides)('requests of virtio-blk: $name', (side) => {
  const test = it.skipIf(side.missing !== undefined);

  test('each has its status, and says how much the device may have written', async () => {
    const { socket } = await serveDisk(side);
    const { disk } = await startDevice(socket);
    for (const { name, request, status } of requests) {
      const result = await disk.submit(request);
      expect({ name, status: result.status, written: result.written }).toEqual({
        name,
        status,
        written: (request.inLength ?? 0) + 1,
      });
    }
  });

  test('leave what they say in the image', async () => {
    const { socket, image } = await serveDisk(side);
    const { disk } = await startDevice(socket);
    const expected = numbered(MIB);
    const bytes = Buffer.alloc(24 * KIB, 'written');
    expect((await disk.write(8 * KIB, bytes)).status).toBe(OK);
    bytes.copy(expected, 8 * KIB);
    expect((await disk.writeZeroes(64 * KIB, 64 * KIB)).status).toBe(OK);
    expect((await disk.writeZeroes(256 * KIB, 64 * KIB, UNMAP)).status).toBe(OK);
    expected.fill(0, 64 * KIB, 128 * KIB).fill(0, 256 * KIB, 320 * KIB);
    expect((await disk.flush()).status).toBe(OK);
    expect((await disk.read(0, MIB)).in.equals(expected)).toBe(true);
    expect(image().equals(expected)).toBe(true);
    // The file unmaps what is discarded, and holes read as zeroes.
    expect((await disk.discard(512 * KIB, 64 * KIB)).status).toBe(OK);
    expected.fill(0, 512 * KIB, 576 * KIB);
    expect(image().equals(expected)).toBe(true);
  });

  test('may discard and zero as much at once as the configuration says', async () => {
    const most = 32768 * SECTOR;
    const { socket, image } = await serveDisk(side, { image: Buffer.alloc(most + MIB, 1) });
    const { disk } = await startDevice(socket);
    expect((await disk.discard(0, most)).status).toBe(OK);
    expect((await disk.writeZeroes(MIB, most)).status).toBe(OK);
    expect(
      image()
        .subarray(MIB)
        .every((byte) => byte === 0),
    ).toBe(true);
  });

  test('identify the disk with as many bytes as there is room for', async () => {
    const { socket } = await serveDisk(side);
    const { disk } = await startDevice(socket);
    const identify = async (inLength: number): Promise<string> => {
      const { status, in: id } = await disk.submit({ type: BLK_T.GET_ID, inLength });
      expect(status).toBe(OK);
      return id.toString('latin1');
    };
    expect((await identify(20)).startsWith('vhost_user_blk\0')).toBe(true);
    expect(await identify(5)).toBe('vhost');
    expect(await identify(0)).toBe('');
  });

  test('change nothing on a disk that is not writable', async () => {
    const { socket, image } = await serveDisk(side, { options: 'writable=off' });
    const { disk } = await startDevice(socket);
    expect((await disk.write(0, sector)).status).toBe(IOERR);
    expect((await disk.discard(0, 4 * KIB)).status).toBe(IOERR);
    expect((await disk.writeZeroes(0, 4 * KIB)).status).toBe(IOERR);
    expect((await disk.flush()).status).toBe(OK);
    expect((await disk.read(0, 64 * KIB)).in.equals(numbered(64 * KIB))).toBe(true);
    expect(image().equals(numbered(MIB))).toBe(true);
  });

  test('begin at a block where blocks are larger than a sector', async () => {
    const { socket } = await serveDisk(side, { options: 'writable=on,logical-block-size=4096' });
    const { disk } = await startDevice(socket);
    const at = async (request: BlkRequest): Promise<number> => (await disk.submit(request)).status;
    expect(await at({ type: BLK_T.IN, sector: 8, inLength: 4096 })).toBe(OK);
    expect(await at({ type: BLK_T.IN, sector: 1, inLength: 4096 })).toBe(IOERR);
    expect(await at({ type: BLK_T.IN, sector: 8, inLength: 512 })).toBe(OK);
    expect(await at({ type: BLK_T.OUT, sector: 7, out: Buffer.alloc(4096) })).toBe(IOERR);
    expect(await at({ type: BLK_T.WRITE_ZEROES, out: range(512, 4096) })).toBe(IOERR);
    expect(await at({ type: BLK_T.DISCARD, out: range(4096, 4096) })).toBe(OK);
  });

  describe.each(rings)('over a ring with $name', ({ without }) => {
    test('arrive whole, however they are cut into buffers', async () => {
      const { socket } = await serveDisk(side);
      const { disk } = await startDevice(socket, { without });
      const cuts: Pick<BlkRequest, 'pieces' | 'joined'>[] = [
        {},
        { joined: true },
        { pieces: [1, 511, 700, 324] },
        { pieces: [7, 2, 8, 1, 600], joined: true },
        { pieces: Array.from({ length: 63 }, (_, each) => each + 1), joined: true },
      ];
      for (const [round, cut] of cuts.entries()) {
        const out = numbered(8 * KIB).fill(round, 4 * KIB);
        const written = await disk.submit({ type: BLK_T.OUT, sector: 8, out, ...cut });
        expect(written.status).toBe(OK);
        const read = await disk.submit({ type: BLK_T.IN, sector: 8, inLength: 8 * KIB, ...cut });
        expect(read.status).toBe(OK);
        expect(read.in.equals(out)).toBe(true);
      }
    });

    test('are told of in time, however many the driver asks for before it waits', async () => {
      const { socket } = await serveDisk(side);
      const { disk } = await startDevice(socket, { without });
      for (const depth of [1, 16, 2, 9, 32, 3]) {
        const oneAfterTheOther = async (): Promise<void> => {
          for (let each = 0; each < 40; each++) {
            expect((await disk.read(0, SECTOR)).status).toBe(OK);
          }
        };
        await Promise.all(Array.from({ length: depth }, oneAfterTheOther));
      }
    });

    test('run many at once, all the way round the indices', async () => {
      const { socket } = await serveDisk(side);
      const { disk } = await startDevice(socket, { without, base: 65_500, queueSize: 64 });
      for (let round = 0; round < 6; round++) {
        const reads = Array.from({ length: 20 }, (_, each) => disk.read(each * SECTOR, SECTOR));
        const results = await Promise.all(reads);
        const whole = Buffer.concat(results.map((result) => result.in));
        expect(whole.equals(numbered(20 * SECTOR))).toBe(true);
      }
    });
  });

  test('reach across pieces of guest memory that are neighbours', async () => {
    const { socket } = await serveDisk(side);
    // The reference counts pieces instead of descriptors, and takes the one too many for a loop in an indirect table.
    const { disk, memory } = await startDevice(socket, {
      memory: { lengths: [4 * MIB, MIB] },
      without: FEATURE.INDIRECT_DESC,
    });
    const header = memory.allocate(17);
    memory.bytes.fill(0, header, header + 16);
    const before = 1536;
    const written = await disk.submitPieces([
      { address: memory.guestAddress(header), length: 16, writable: false },
      { address: memory.guestAddress(4 * MIB - before), length: 4 * KIB, writable: true },
      { address: memory.guestAddress(header + 16), length: 1, writable: true },
    ]);
    expect(written).toBe(4 * KIB + 1);
    const [first, second] = memory.regions.map(({ shared }) => shared.bytes);
    const read = Buffer.concat([
      first?.subarray(4 * MIB - before) ?? Buffer.alloc(0),
      second?.subarray(0, 4 * KIB - before) ?? Buffer.alloc(0),
    ]);
    expect(read.equals(numbered(4 * KIB))).toBe(true);
  });

  test('are served in memory that may shrink', async () => {
    const { socket } = await serveDisk(side);
    const { disk } = await startDevice(socket, { memory: { sealed: false } });
    expect((await disk.write(4 * KIB, sector)).status).toBe(OK);
    expect((await disk.read(4 * KIB, SECTOR)).in.equals(sector)).toBe(true);
  });

  test('are served on every queue', async () => {
    const { socket } = await serveDisk(side, { options: 'writable=on,num-queues=4' });
    const { disks } = await startDevice(socket, { queues: 4, queueSize: 16 });
    const rounds = Array.from({ length: 3 }, (_, round) =>
      disks.map(async (disk, index) => {
        const at = (round * 4 + index) * 4 * KIB;
        expect((await disk.write(at, Buffer.alloc(4 * KIB, at / KIB))).status).toBe(OK);
        expect((await disk.read(at, 4 * KIB)).in.equals(Buffer.alloc(4 * KIB, at / KIB))).toBe(
          true,
        );
      }),
    );
    for (const round of rounds) await Promise.all(round);
  });

  test('keep neither another queue nor the monitor waiting, however many there are', async () => {
    const { socket, daemon } = await serveDisk(side, { options: 'writable=on,num-queues=2' });
    const { disks } = await startDevice(socket, { queues: 2 });
    const over = new AbortController();
    const oneAfterTheOther = async (disk: BlkQueue): Promise<number> => {
      let done = 0;
      for (; !over.signal.aborted || done < 100; done++) {
        expect((await disk.read(0, SECTOR)).status).toBe(OK);
        // What it has read is kept until none is under way.
        if (done % 100 === 99) await disk.idle();
      }
      return done;
    };
    const all = disks.flatMap((disk) => Array.from({ length: 32 }, () => oneAfterTheOther(disk)));
    for (let each = 0; each < 20; each++) await daemon.qmp.execute('query-block-exports');
    over.abort();
    for (const done of await Promise.all(all)) expect(done).toBeGreaterThanOrEqual(100);
  });

  test('that are large, and never end, do not keep another queue waiting', async () => {
    const { socket } = await serveDisk(side, { options: 'writable=on,num-queues=2' });
    const { memory, disks } = await startDevice(socket, { queues: 2 });
    const [large, small] = disks as [BlkQueue, BlkQueue];
    const header = memory.allocate(16);
    memory.bytes.fill(0, header, header + 16);
    const data = memory.allocate(MIB + 1);
    const pieces = [
      { address: memory.guestAddress(header), length: 16, writable: false },
      { address: memory.guestAddress(data), length: MIB + 1, writable: true },
    ];
    let done = 0;
    const over = new AbortController();
    const again = async (): Promise<void> => {
      for (; !over.signal.aborted; done++) await large.submitPieces(pieces);
    };
    const all = Array.from({ length: 48 }, again);
    for (let each = 0; each < 20; each++) {
      expect((await small.read(0, SECTOR)).status).toBe(OK);
    }
    // A hundred times as many are done where they come first.
    expect(done).toBeLessThan(10_000);
    over.abort();
    await Promise.all(all);
    expect(memory.bytes[data + MIB]).toBe(OK);
  });

  test('that wait for no interrupt are served all the same', async () => {
    const { socket } = await serveDisk(side);
    const { disk } = await startDevice(socket, { without: FEATURE.EVENT_IDX });
    disk.queue.setNoInterrupt(true);
    const quiet = disk.read(0, SECTOR);
    disk.queue.setNoInterrupt(false);
    const loud = disk.read(SECTOR, SECTOR);
    expect((await Promise.all([quiet, loud])).map(({ status }) => status)).toEqual([OK, OK]);
  });
});
