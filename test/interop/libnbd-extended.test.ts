// NBD's extended headers with a client of others: a libnbd that is new enough to ask for them.

import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { root } from '../config/shared.ts';
import { type Served, serve, succeed } from './serve.ts';

const GIB = 2 ** 30;
const MIB = 2 ** 20;
const programs = join(root, '.cache/libnbd/bin');
const nbdinfo = join(programs, 'nbdinfo');
const nbdcopy = join(programs, 'nbdcopy');
const python = join(programs, 'python3');
const reason = existsSync(nbdinfo) ? undefined : 'no libnbd of Debian 13: make reference';

const digest = (path: string): string =>
  createHash('sha256').update(readFileSync(path)).digest('hex');

describe.skipIf(reason !== undefined)(
  `libnbd with extended headers${reason ? ` (${reason})` : ''}`,
  () => {
    let served: Served;
    beforeAll(async () => {
      served = await serve({
        files: [
          { name: 'large.img', length: 8 * GIB, fill: [[6 * GIB, MIB, 7]] },
          { name: 'a.img', length: 32 * MIB },
          { name: 'b.img', length: 32 * MIB },
        ],
        arguments: [
          '--blockdev',
          'file,node-name=large,filename=@DIR@/large.img,discard=unmap',
          '--export',
          'nbd,id=large,node-name=large,name=large,writable=on',
          ...['a', 'b'].flatMap((name) => [
            '--blockdev',
            `file,node-name=${name},filename=@DIR@/${name}.img`,
            '--export',
            `nbd,id=${name},node-name=${name},name=${name},writable=on`,
          ]),
        ],
      });
    });
    afterAll(async () => {
      expect(await served.stop()).toBe('<exit 0>');
    });

    /** Runs Python with a handle `h` that is connected to an export; `setup` comes before. What it prints, as JSON. */
    async function shell(name: string, body: string, setup = ''): Promise<unknown> {
      const program = [
        'import nbd, json',
        'h = nbd.NBD()',
        setup,
        `h.connect_uri("${served.uri(name)}")`,
        'assert h.get_extended_headers_negotiated()',
        body,
        'h.shutdown()',
      ].join('\n');
      return JSON.parse(await succeed(python, '-c', program));
    }

    it('nbdinfo says that they are used', async () => {
      const text = await succeed(nbdinfo, served.uri('large'));
      expect(text).toContain('protocol: newstyle-fixed without TLS, using extended packets');
      expect(text).toContain('can_block_status_payload: true');
    });

    it('a map has extents of more than 4 GiB', async () => {
      const map: unknown = JSON.parse(
        await succeed(nbdinfo, '--map', '--json', served.uri('large')),
      );
      expect(map).toMatchObject([
        { offset: 0, length: 6 * GIB, type: 3 },
        { offset: 6 * GIB, length: MIB, type: 0 },
        { offset: 6 * GIB + MIB, length: 2 * GIB - MIB, type: 3 },
      ]);
    });

    it('one request tells of 8 GiB', async () => {
      const body = [
        'found = []',
        `h.block_status_64(${8 * GIB}, 0, lambda context, offset, extents, error: found.extend(extents))`,
        'print(json.dumps(found))',
      ].join('\n');
      const found = await shell('large', body, 'h.add_meta_context("base:allocation")');
      expect(found).toEqual([
        [6 * GIB, 3],
        [MIB, 0],
        [2 * GIB - MIB, 3],
      ]);
    });

    it('one request zeroes and one discards more than 4 GiB', async () => {
      const body = [
        `h.pwrite(b"x" * ${MIB}, ${5 * GIB})`,
        `h.zero(${5 * GIB + MIB}, 0)`,
        `h.trim(${5 * GIB}, ${MIB})`,
        'h.flush()',
        `print(json.dumps(h.pread(512, ${5 * GIB}) == bytes(512)))`,
      ].join('\n');
      expect(await shell('large', body)).toBe(true);
      expect(statSync(served.path('large.img')).size).toBe(8 * GIB);
    });

    it('a status request may leave contexts out', async () => {
      await served.qmp.expect('block-dirty-bitmap-add', { node: 'b', name: 'changes' });
      await served.qmp.expect('block-export-add', {
        type: 'nbd',
        id: 'filtered',
        'node-name': 'b',
        name: 'filtered',
        bitmaps: ['changes'],
        writable: true,
      });
      const setup = [
        'h.add_meta_context("base:allocation")',
        'h.add_meta_context("qemu:dirty-bitmap:changes")',
      ].join('\n');
      const body = [
        'asked = []',
        'def note(context, offset, extents, error): asked.append(context)',
        `h.block_status_filter(${MIB}, 0, ["qemu:dirty-bitmap:changes"], note)`,
        `h.block_status_64(${MIB}, 0, note)`,
        'print(json.dumps(asked))',
      ].join('\n');
      expect(await shell('filtered', body, setup)).toEqual([
        'qemu:dirty-bitmap:changes',
        'base:allocation',
        'qemu:dirty-bitmap:changes',
      ]);
      await served.qmp.expect('block-export-del', { id: 'filtered', mode: 'hard' });
    });

    it('errors keep the connection in step', async () => {
      const body = [
        'h.set_strict_mode(0)',
        'failed = []',
        `for call in (lambda: h.pread(512, ${32 * MIB}), lambda: h.pwrite(b"x" * 512, ${32 * MIB}),`,
        `             lambda: h.zero(${9 * GIB}, 0)):`,
        '  try: call()',
        '  except nbd.Error as error: failed.append(error.errno)',
        'h.pwrite(b"y" * 512, 0)',
        'failed.append(h.pread(512, 0) == b"y" * 512)',
        'print(json.dumps(failed))',
      ].join('\n');
      expect(await shell('a', body)).toEqual(['EINVAL', 'EINVAL', 'EINVAL', true]);
    });

    it('nbdcopy copies in both directions, many requests at a time', async () => {
      const content = randomBytes(32 * MIB);
      content.fill(0, 5 * MIB, 9 * MIB);
      writeFileSync(served.path('source'), content);
      await succeed(nbdcopy, '--requests=64', served.path('source'), served.uri('a'));
      expect(digest(served.path('a.img'))).toBe(digest(served.path('source')));
      await succeed(nbdcopy, served.uri('a'), served.uri('b'));
      expect(digest(served.path('b.img'))).toBe(digest(served.path('source')));
      await succeed(nbdcopy, served.uri('b'), served.path('back'));
      expect(digest(served.path('back'))).toBe(digest(served.path('source')));
    });
  },
);
