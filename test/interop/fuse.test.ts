// Ordinary tools on the file of a FUSE export, and what is in the image afterwards.

import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { startDaemon, type TestDaemon } from '../helpers/daemon.ts';
import { callsOn, fuseMissing, loopMissing, output } from '../helpers/fuse.ts';
import { missing } from '../helpers/reference.ts';
import { tempDir } from '../helpers/temp-dir.ts';

const MIB = 1024 * 1024;
const reason = fuseMissing();

/** A daemon in a directory with the image `a.img` of random bytes and the mountpoint `m`; `exported` are its options. */
async function serve(
  exported: string,
  { image = randomBytes(8 * MIB), node = 'file,node-name=n,filename=a.img,discard=unmap' } = {},
): Promise<TestDaemon> {
  const directory = tempDir();
  writeFileSync(`${directory}/a.img`, image);
  writeFileSync(`${directory}/m`, '');
  const daemon = await startDaemon({
    directory,
    args: ['--blockdev', node, '--export', `fuse,id=e,node-name=n,mountpoint=m,${exported}`],
  });
  // Before the directory goes, whatever the test's end.
  onTestFinished(async () => {
    daemon.child.kill('SIGTERM');
    await daemon.outcome;
  });
  return daemon;
}

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

describe.skipIf(reason !== undefined)(`FUSE exports${reason ? ` (${reason})` : ''}`, () => {
  it('cp, cat, cmp and dd read the node', async () => {
    const daemon = await serve('writable=off');
    const image = daemon.path('a.img');
    const mounted = daemon.path('m');
    const copy = daemon.path('copy');
    // File systems may allocate what is written, and count it, later.
    await output('sync', image);
    expect(await output('stat', '-c', '%s %b', mounted)).toBe(
      await output('stat', '-c', '%s %b', image),
    );
    await output('cp', mounted, copy);
    await output('cmp', image, copy);
    await output('dd', `if=${mounted}`, `of=${copy}`, 'bs=64k', 'iflag=direct');
    await output('cmp', image, copy);
    await output('dd', `if=${mounted}`, `of=${copy}`, 'bs=10000');
    await output('cmp', image, copy);
  });

  it('dd writes the node, through the cache and directly', async () => {
    const daemon = await serve('writable=on');
    const data = randomBytes(8 * MIB);
    writeFileSync(daemon.path('data'), data);
    await output(
      'dd',
      `if=${daemon.path('data')}`,
      `of=${daemon.path('m')}`,
      'bs=30000',
      'conv=fsync',
    );
    expect(digest(readFileSync(daemon.path('a.img')))).toBe(digest(data));
    const [from, to] = [`if=${daemon.path('a.img')}`, `of=${daemon.path('m')}`];
    await output('dd', from, to, 'bs=1M', 'seek=1', 'count=4', 'oflag=direct', 'conv=notrunc');
    // The source changed under dd: what it read it had written before.
    const first = data.subarray(0, MIB);
    expect(digest(readFileSync(daemon.path('a.img')).subarray(0, 2 * MIB))).toBe(
      digest(Buffer.concat([first, first])),
    );
  });

  it('a growable export takes more than it had', async () => {
    const image = randomBytes(MIB);
    const daemon = await serve('writable=on,growable=on', { image });
    const data = randomBytes(3 * MIB + 12_345);
    writeFileSync(daemon.path('data'), data);
    await output('cp', daemon.path('data'), daemon.path('m'));
    expect(digest(readFileSync(daemon.path('a.img')).subarray(0, data.length))).toBe(digest(data));
    expect(await output('stat', '-c', '%s', daemon.path('m'))).toBe(`${3 * MIB + 12_800}\n`);
  });

  it('many write beyond the end at once, and nothing is lost', async () => {
    const daemon = await serve('writable=on,growable=on', { image: Buffer.alloc(4096) });
    const program = `
import os, sys, threading
f = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT)
import mmap
def work(n):
    with mmap.mmap(-1, 4096) as m:
        m[:] = bytes([n + 1]) * 4096
        assert os.pwritev(f, [m], n * 4096) == 4096
threads = [threading.Thread(target=work, args=(n,)) for n in reversed(range(64))]
for t in threads: t.start()
for t in threads: t.join()
`;
    await output('python3', '-c', program, daemon.path('m'));
    const written = readFileSync(daemon.path('a.img'));
    const expected = Buffer.concat(Array.from({ length: 64 }, (_, n) => Buffer.alloc(4096, n + 1)));
    expect(digest(written)).toBe(digest(expected));
  });

  it('100 read at once', async () => {
    const daemon = await serve('writable=off');
    const image = readFileSync(daemon.path('a.img'));
    const program = `
import hashlib, mmap, os, sys, threading
size = 8 << 20
wrong = []
def work(n):
    f = os.open(sys.argv[1], os.O_RDONLY | (os.O_DIRECT if n % 2 else 0))
    h = hashlib.sha256()
    with mmap.mmap(-1, 1 << 18) as m:
        for at in range(0, size, 1 << 18):
            assert os.preadv(f, [m], at) == 1 << 18
            h.update(m)
    if h.hexdigest() != sys.argv[2]: wrong.append(n)
    os.close(f)
threads = [threading.Thread(target=work, args=(n,)) for n in range(100)]
for t in threads: t.start()
for t in threads: t.join()
print(wrong)
`;
    expect(await output('python3', '-c', program, daemon.path('m'), digest(image))).toBe('[]\n');
  });

  const qemu = missing('qemu-img', 'qemu-io');
  it.skipIf(qemu !== undefined)(
    `qemu-img reads and writes it${qemu ? ` (${qemu})` : ''}`,
    async () => {
      const image = Buffer.concat([randomBytes(MIB), Buffer.alloc(6 * MIB), randomBytes(MIB)]);
      const daemon = await serve('writable=on', { image });
      const mounted = daemon.path('m');
      await output('fallocate', '-p', '-o', `${MIB}`, '-l', `${6 * MIB}`, mounted);
      const info = JSON.parse(
        await output('qemu-img', 'info', '-f', 'raw', '--output=json', mounted),
      );
      expect(info).toMatchObject({ 'virtual-size': 8 * MIB, format: 'raw' });
      const map = JSON.parse(
        await output('qemu-img', 'map', '-f', 'raw', '--output=json', mounted),
      );
      expect(map.map(({ start, data }: { start: number; data: boolean }) => [start, data])).toEqual(
        [
          [0, true],
          [MIB, false],
          [7 * MIB, true],
        ],
      );
      await output('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', mounted, daemon.path('copy'));
      await output('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', mounted, daemon.path('copy'));
      await output('qemu-img', 'create', '-q', '-f', 'raw', daemon.path('other'), '8M');
      await output(
        'qemu-img',
        'convert',
        '-n',
        '-f',
        'raw',
        '-O',
        'raw',
        daemon.path('other'),
        mounted,
      );
      expect(readFileSync(daemon.path('a.img')).every((byte) => byte === 0)).toBe(true);
    },
  );

  it.skipIf(qemu !== undefined)('a qcow2 image is a raw file, and is one afterwards', async () => {
    const directory = tempDir();
    await output('qemu-img', 'create', '-q', '-f', 'qcow2', `${directory}/disk`, '16M');
    const daemon = await serve('writable=on,growable=on', {
      node: `qcow2,node-name=n,file.driver=file,file.filename=${directory}/disk`,
    });
    expect(
      await callsOn(daemon.path('m'), [
        ['open', 'O_RDWR'],
        ['write', 7, 300_000, 5 * MIB + 123],
        ['ftruncate', 20 * MIB],
        ['ftruncate', 20 * MIB + 1],
        ['write', 8, 4096, 24 * MIB],
        ['fallocate', 3, 5 * MIB, 131_072],
        ['fallocate', 3, 5 * MIB + 140_000, 100_000],
        ['lseek', 'SEEK_DATA', 0],
        ['close'],
      ]),
    ).toEqual([
      '["open", "O_RDWR"] -> ok',
      `["write", 7, 300000, ${5 * MIB + 123}] -> 300000`,
      `["ftruncate", ${20 * MIB}] -> ok`,
      `["ftruncate", ${20 * MIB + 1}] -> EINVAL`,
      `["write", 8, 4096, ${24 * MIB}] -> 4096`,
      `["fallocate", 3, ${5 * MIB}, 131072] -> ok`,
      `["fallocate", 3, ${5 * MIB + 140_000}, 100000] -> ok`,
      `["lseek", "SEEK_DATA", 0] -> ${5 * MIB + 131_072}`,
      '["close"] -> ok',
    ]);
    await output('cp', daemon.path('m'), daemon.path('copy'));
    daemon.child.kill('SIGTERM');
    await daemon.outcome;
    await output('qemu-img', 'check', '-q', `${directory}/disk`);
    // A hole that begins and ends within clusters: all of it are zeroes, and no more.
    const areas = [
      `read -P 7 ${5 * MIB + 131_072} ${140_000 - 131_072}`,
      `read -P 0 ${5 * MIB + 140_000} 100000`,
      `read -P 7 ${5 * MIB + 240_000} 50000`,
    ];
    await output('qemu-io', ...areas.flatMap((area) => ['-c', area]), `${directory}/disk`);
    await output(
      'qemu-img',
      'compare',
      '-f',
      'qcow2',
      '-F',
      'raw',
      `${directory}/disk`,
      daemon.path('copy'),
    );
  });

  const fio = missing('fio');
  it.skipIf(fio !== undefined)(`fio verifies what it wrote${fio ? ` (${fio})` : ''}`, async () => {
    const daemon = await serve('writable=on', { image: Buffer.alloc(16 * MIB) });
    for (const direct of [0, 1]) {
      const job = [
        `--name=v --filename=${daemon.path('m')} --direct=${direct} --ioengine=libaio --iodepth=32`,
        `--rw=randwrite --bsrange=4k-256k --size=16m --aux-path=${daemon.directory}`,
        '--verify=crc32c --verify_fatal=1',
      ].flatMap((options) => options.split(' '));
      await output('fio', ...job);
    }
  });

  const loop = loopMissing();
  it.skipIf(loop !== undefined)(
    `a file system lives on it, by way of a loop device${loop ? ` (${loop})` : ''}`,
    async () => {
      const daemon = await serve('writable=on', { image: Buffer.alloc(32 * MIB, 0xff) });
      const program = `
set -e
cd "$1"
mkdir fs
dev=$(losetup --show -f m)
trap 'umount fs 2>/dev/null || :; losetup -d "$dev"' EXIT
mkfs.ext4 -q -F "$dev"
mount "$dev" fs
head -c 5000000 /dev/urandom > fs/data
sha256sum < fs/data > sum
umount fs
mount "$dev" fs
sha256sum < fs/data | cmp - sum
umount fs
`;
      await output('sh', '-c', program, 'sh', daemon.directory);
      daemon.child.kill('SIGTERM');
      await daemon.outcome;
      await output('e2fsck', '-fn', daemon.path('a.img'));
    },
  );
});
