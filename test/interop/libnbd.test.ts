import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { dataExtents } from '../conformance/steps.ts';
import { missing, pythonWithNbd } from '../helpers/reference.ts';
import { exported, type Served, serve, succeed } from './serve.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const reason = missing('nbdinfo', 'nbdcopy');
const pythonPath = pythonWithNbd() ?? '';
const shellReason =
  pythonPath === ''
    ? 'no Python with libnbd: install the Debian package python3-libnbd'
    : undefined;
const digest = (path: string): string =>
  createHash('sha256').update(readFileSync(path)).digest('hex');

const serveTwo = async (): Promise<Served> =>
  serve({
    files: [
      {
        name: 'a.img',
        length: 32 * MIB,
        fill: [
          [0, 64 * KIB, 1],
          [10 * MIB, MIB, 2],
        ],
      },
      { name: 'target.img', length: 32 * MIB },
    ],
    arguments: [
      ...exported('a.img'),
      '--blockdev',
      'file,node-name=t,filename=@DIR@/target.img,discard=unmap',
      '--export',
      'nbd,id=t,node-name=t,name=target,description=for copies,writable=on',
    ],
  });

describe.skipIf(reason !== undefined)(`nbdinfo and nbdcopy${reason ? ` (${reason})` : ''}`, () => {
  let served: Served;
  beforeAll(async () => {
    served = await serveTwo();
  });
  afterAll(async () => {
    expect(await served.stop()).toBe('<exit 0>');
  });

  it('nbdinfo --size', async () => {
    expect(await succeed('nbdinfo', '--size', served.uri())).toBe(`${32 * MIB}\n`);
  });

  it('nbdinfo --map tells holes and data', async () => {
    const map = JSON.parse(await succeed('nbdinfo', '--map', '--json', served.uri())) as object[];
    expect(map).toMatchObject([
      { offset: 0, length: 64 * KIB, type: 0 },
      { offset: 64 * KIB, length: 10 * MIB - 64 * KIB, type: 3 },
      { offset: 10 * MIB, length: MIB, type: 0 },
      { offset: 11 * MIB, length: 21 * MIB, type: 3 },
    ]);
  });

  it('nbdinfo --map=qemu:allocation-depth', async () => {
    await served.qmp.expect('block-export-add', {
      type: 'nbd',
      id: 'depth',
      'node-name': 't',
      name: 'depth',
      'allocation-depth': true,
    });
    const uri = served.uri('depth');
    const text = await succeed('nbdinfo', '--map=qemu:allocation-depth', '--json', uri);
    expect(JSON.parse(text)).toMatchObject([{ offset: 0, length: 32 * MIB }]);
    await served.qmp.expect('block-export-del', { id: 'depth', mode: 'hard' });
  });

  it('nbdinfo --json tells what the export can do', async () => {
    const info = JSON.parse(await succeed('nbdinfo', '--json', served.uri('target'))) as object;
    expect(info).toMatchObject({
      protocol: 'newstyle-fixed',
      TLS: false,
      structured: true,
      exports: [
        {
          'export-name': 'target',
          description: 'for copies',
          'export-size': 32 * MIB,
          is_read_only: false,
          can_cache: true,
          can_df: true,
          can_fast_zero: true,
          can_flush: true,
          can_fua: true,
          can_multi_conn: true,
          can_trim: true,
          can_zero: true,
          block_size_minimum: 1,
          block_size_preferred: 4096,
          block_size_maximum: 32 * MIB,
          contexts: ['base:allocation'],
        },
      ],
    });
  });

  it('nbdinfo --list names the exports in order', async () => {
    const uri = `nbd+unix:///?socket=${served.socket}`;
    const list = JSON.parse(await succeed('nbdinfo', '--list', '--json', uri)) as {
      exports: { 'export-name': string }[];
    };
    expect(list.exports.map((found) => found['export-name'])).toEqual(['ex', 'target']);
  });

  it('nbdcopy reads an export into an equal file', async () => {
    const copy = served.path('copy.img');
    await succeed('nbdcopy', served.uri(), copy);
    expect(digest(copy)).toBe(digest(served.path('a.img')));
    expect(statSync(copy).blocks * 512).toBeLessThan(2 * MIB);
  });

  it('nbdcopy writes an export, holes and all', async () => {
    const source = served.path('source.img');
    writeFileSync(source, randomBytes(5 * MIB));
    truncateSync(source, 32 * MIB);
    await succeed('nbdcopy', '--flush', source, served.uri('target'));
    expect(digest(served.path('target.img'))).toBe(digest(source));
    expect(dataExtents(served.path('target.img'))).toBe(dataExtents(source));
  });

  it('nbdcopy from export to export over many connections', async () => {
    await succeed(
      'nbdcopy',
      '--connections=4',
      '--requests=64',
      '--destination-is-zero',
      '--allocated',
      served.uri(),
      served.uri('target'),
    );
    await succeed(
      'nbdcopy',
      '--connections=4',
      '--requests=64',
      served.uri(),
      served.uri('target'),
    );
    expect(digest(served.path('target.img'))).toBe(digest(served.path('a.img')));
  });
});

const python = String.raw`
import nbd, sys, hashlib
h = nbd.NBD()
h.add_meta_context("base:allocation")
h.connect_uri(sys.argv[1])
checks = []
def check(name, ok):
    if not ok: raise SystemExit("failed: " + name)
    checks.append(name)
check("structured", h.get_structured_replies_negotiated())
check("context", h.can_meta_context("base:allocation"))
size = h.get_size()
# Pipelined: 1,000 writes, then 1,000 reads, all in flight as far as the server lets them.
def drain(cookies):
    while cookies:
        h.poll(-1)
        cookies[:] = [c for c in cookies if not h.aio_command_completed(c)]
bufs = []
cookies = []
for i in range(1000):
    b = nbd.Buffer.from_bytearray(bytearray([(i * 7 + 1) % 256]) * 4096)
    bufs.append(b)
    cookies.append(h.aio_pwrite(b, i * 8192))
drain(cookies)
check("1000 writes", True)
bufs = [nbd.Buffer(4096) for _ in range(1000)]
cookies = [h.aio_pread(b, i * 8192) for i, b in enumerate(bufs)]
drain(cookies)
for i, b in enumerate(bufs):
    if b.to_bytearray() != bytearray([(i * 7 + 1) % 256]) * 4096: raise SystemExit("read %d differs" % i)
check("1000 reads", True)
# Structured reads: chunks with and without DF.
chunks = []
def chunk(buf, offset, status, error):
    chunks.append((offset, len(buf), status))
    return 0
h.pread_structured(32768, 16 << 20, chunk)
check("a hole is one hole", chunks == [(16 << 20, 32768, nbd.READ_HOLE)])
chunks.clear()
h.pread_structured(32768, 16 << 20, chunk, nbd.CMD_FLAG_DF)
check("DF is one chunk of data", chunks == [(16 << 20, 32768, nbd.READ_DATA)])
# Block status.
entries = []
def extent(metacontext, offset, e, error):
    entries.append((metacontext, offset, list(e)))
    return 0
h.block_status(1 << 20, 16 << 20, extent)
check("block status of a hole", entries == [("base:allocation", 16 << 20, [1 << 20, 3])])
entries.clear()
h.block_status(1 << 20, 0, extent, nbd.CMD_FLAG_REQ_ONE)
check("one extent when one is asked for", len(entries[0][2]) == 2)
# Flags.
h.pwrite(b"x" * 512, 20 << 20, nbd.CMD_FLAG_FUA)
check("FUA write", h.pread(512, 20 << 20) == b"x" * 512)
h.cache(1 << 20, 0)
check("cache", True)
h.zero(65536, 0)
check("zero", h.pread(65536, 0) == bytearray(65536))
h.zero(65536, 65536, nbd.CMD_FLAG_NO_HOLE)
check("zero without a hole", h.pread(65536, 65536) == bytearray(65536))
h.zero(65536, 131072, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
try:
    h.zero(65536, 1 << 20, nbd.CMD_FLAG_FAST_ZERO)
    check("fast zero works", h.pread(65536, 1 << 20) == bytearray(65536))
except nbd.Error as e:
    check("fast zero is refused with ENOTSUP", e.errnum == 95)
h.trim(65536, 2 << 20)
h.trim(65536, 3 << 20, nbd.CMD_FLAG_FUA)
check("trim", True)
h.flush()
h.set_strict_mode(0)
for name, call in (("read past the end", lambda: h.pread(512, size)), ("write past the end", lambda: h.pwrite(b"y" * 512, size))):
    try:
        call()
        raise SystemExit(name + " was served")
    except nbd.Error as e:
        check(name, e.errnum == 22)
check("alive after errors", len(h.pread(512, 0)) == 512)
h.shutdown()
print(len(checks))
`;

describe.skipIf(shellReason !== undefined)(
  `libnbd in Python${shellReason ? ` (${shellReason})` : ''}`,
  () => {
    let served: Served;
    beforeAll(async () => {
      served = await serveTwo();
    });
    afterAll(async () => {
      expect(await served.stop()).toBe('<exit 0>');
    });

    it('a thousand pipelined requests, structured reads, status and every flag', async () => {
      const script = served.path('session.py');
      writeFileSync(script, python);
      expect(await succeed(pythonPath, script, served.uri('target'))).toMatch(/^\d+\n$/);
    });

    it('nbdsh opens a URI', async () => {
      const text = await succeed(
        pythonPath,
        '-m',
        'nbd',
        '-u',
        served.uri(),
        '-c',
        'print(h.get_size())',
        '-c',
        'print(h.pread(2, 0))',
      );
      expect(text).toBe(`${32 * MIB}\nbytearray(b'\\x01\\x01')\n`);
    });
  },
);
