import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { missing, pythonWithNbd } from '../helpers/reference.ts';
import { exported, type Served, serve, succeed } from './serve.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const reason = missing('nbdinfo', 'qemu-img', 'qemu-io');
const pythonPath = pythonWithNbd() ?? '';

interface Extent {
  readonly offset: number;
  readonly length: number;
  readonly type: number;
}

/** What nbdinfo tells of a context, as `offset+length type`. */
async function mapped(uri: string, context: string): Promise<string[]> {
  const text = await succeed('nbdinfo', `--map=${context}`, '--json', uri);
  return (JSON.parse(text) as Extent[]).map(
    ({ offset, length, type }) => `${offset}+${length} ${type}`,
  );
}

describe.skipIf(reason !== undefined)(
  `dirty bitmaps to real clients${reason === undefined ? '' : ` (${reason})`}`,
  () => {
    let served: Served;

    beforeAll(async () => {
      served = await serve({
        files: [{ name: 'a.img', length: 8 * MIB }],
        arguments: exported('a.img'),
      });
      const { qmp } = served;
      await qmp.expect('block-dirty-bitmap-add', { node: 'f', name: 'old', granularity: 4096 });
      await succeed('qemu-io', '-f', 'raw', '-c', 'write 0 4k', '-c', 'write 1M 64k', served.uri());
      await qmp.expect('block-dirty-bitmap-disable', { node: 'f', name: 'old' });
      await qmp.expect('block-dirty-bitmap-add', { node: 'f', name: 'new', granularity: 65536 });
      await succeed('qemu-io', '-f', 'raw', '-c', 'write -z 4M 1M', served.uri());
      await succeed('qemu-io', '-f', 'raw', '-c', 'discard 6M 64k', served.uri());
      await qmp.expect('block-export-add', {
        type: 'nbd',
        id: 'b',
        'node-name': 'f',
        name: 'b',
        writable: true,
        bitmaps: ['old', { node: 'f', name: 'new' }],
        'allocation-depth': true,
      });
    });
    afterAll(async () => {
      expect(await served.stop()).toBe('<exit 0>');
    });

    const old = [
      '0+4096 1',
      `4096+${MIB - 4096} 0`,
      `${MIB}+65536 1`,
      `${MIB + 65536}+${7 * MIB - 65536} 0`,
    ];

    it('nbdinfo maps each of them', async () => {
      expect(await mapped(served.uri('b'), 'qemu:dirty-bitmap:old')).toEqual(old);
      expect(await mapped(served.uri('b'), 'qemu:dirty-bitmap:new')).toEqual([
        `0+${4 * MIB} 0`,
        `${4 * MIB}+${MIB} 1`,
        `${5 * MIB}+${MIB} 0`,
        `${6 * MIB}+65536 1`,
        `${6 * MIB + 65536}+${2 * MIB - 65536} 0`,
      ]);
    });

    it('nbdinfo maps the allocation depth', async () => {
      expect(await mapped(served.uri('b'), 'qemu:allocation-depth')).toEqual([`0+${8 * MIB} 1`]);
    });

    it('nbdinfo lists what there is to map', async () => {
      const info = JSON.parse(await succeed('nbdinfo', '--json', served.uri('b'))) as {
        readonly exports: readonly { readonly contexts: readonly string[] }[];
      };
      expect(info.exports[0]?.contexts).toEqual([
        'base:allocation',
        'qemu:allocation-depth',
        'qemu:dirty-bitmap:old',
        'qemu:dirty-bitmap:new',
      ]);
    });

    it('qemu-img map shows one in place of the allocation', async () => {
      const image = [
        'driver=nbd',
        'server.type=unix',
        `server.path=${served.socket}`,
        'export=b',
        'x-dirty-bitmap=qemu:dirty-bitmap:old',
      ].join(',');
      const text = await succeed('qemu-img', 'map', '--output=json', '--image-opts', image);
      const entries = JSON.parse(text) as { start: number; length: number; data: boolean }[];
      // This client takes dirty for a hole.
      const seen = entries.map(({ start, length, data }) => `${start}+${length} ${data ? 0 : 1}`);
      expect(seen).toEqual(old);
    });

    it('an incremental backup copies what a bitmap says, and only that', async () => {
      await succeed('qemu-img', 'create', '-f', 'raw', served.path('copy.img'), `${8 * MIB}`);
      const areas = await mapped(served.uri('b'), 'qemu:dirty-bitmap:old');
      for (const area of areas.filter((one) => one.endsWith(' 1'))) {
        const [offset, length] = area.split(/[+ ]/).map(Number);
        const source = `driver=raw,offset=${offset},size=${length},file.driver=nbd,file.server.type=unix,file.server.path=${served.socket},file.export=b`;
        const target = `driver=raw,offset=${offset},size=${length},file.driver=file,file.filename=${served.path('copy.img')}`;
        await succeed(
          'qemu-img',
          'convert',
          '-n',
          '--image-opts',
          source,
          '--target-image-opts',
          target,
        );
      }
      const check = [
        '-c',
        'read -P 0xcd 0 4k',
        '-c',
        'read -P 0xcd 1M 64k',
        '-c',
        'read -P 0 4k 16k',
      ];
      const text = await succeed('qemu-io', '-f', 'raw', ...check, served.path('copy.img'));
      expect(text).not.toMatch(/failed|Pattern/);
    });
  },
);

const shellReason =
  pythonPath === ''
    ? 'no Python with libnbd: install the Debian package python3-libnbd'
    : missing('nbdinfo');

/** Dirties every other sector of many, then asks for all of them at once. */
const python = String.raw`
import nbd, sys
uri, dirty = sys.argv[1], int(sys.argv[2])
h = nbd.NBD()
for context in ("base:allocation", "qemu:dirty-bitmap:b"): h.add_meta_context(context)
h.connect_uri(uri)
cookies = []
data = nbd.Buffer.from_bytearray(bytearray(512))
for i in range(dirty):
    cookies.append(h.aio_pwrite(data, i * 1024))
    if len(cookies) == 64:
        while cookies:
            h.poll(-1)
            cookies = [c for c in cookies if not h.aio_command_completed(c)]
while cookies:
    h.poll(-1)
    cookies = [c for c in cookies if not h.aio_command_completed(c)]
def status(flags = 0):
    seen = {}
    def extent(metacontext, offset, entries, error):
        seen[metacontext] = list(entries)
        return 0
    h.block_status(h.get_size(), 0, extent, flags)
    return seen["qemu:dirty-bitmap:b"]
entries = status()
lengths, flags = entries[0::2], entries[1::2]
print(len(lengths), sum(lengths), set(lengths), flags[:4], flags[-1])
print(status(nbd.CMD_FLAG_REQ_ONE))
h.shutdown()
`;

describe.skipIf(shellReason !== undefined)(
  `the limit of extents in a reply${shellReason === undefined ? '' : ` (${shellReason})`}`,
  () => {
    it('is 131072: the rest is not told, and can be asked for', async () => {
      const served = await serve({
        arguments: [
          '--blockdev',
          'null-co,node-name=n,size=1073741824',
          '--export',
          'nbd,id=e,node-name=n,name=ex,writable=on',
        ],
      });
      await served.qmp.expect('block-dirty-bitmap-add', { node: 'n', name: 'b', granularity: 512 });
      await served.qmp.expect('block-export-add', {
        type: 'nbd',
        id: 'b',
        'node-name': 'n',
        name: 'b',
        writable: true,
        bitmaps: ['b'],
      });
      const script = served.path('many.py');
      writeFileSync(script, python);
      const extents = 128 * KIB;
      expect(await succeed(pythonPath, script, served.uri('b'), `${extents / 2 + 1}`)).toBe(
        `${extents} ${extents * 512} {512} [1, 0, 1, 0] 0\n[512, 1]\n`,
      );
      expect(await served.stop()).toBe('<exit 0>');
    });
  },
);
