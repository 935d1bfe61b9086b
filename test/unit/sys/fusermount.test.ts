// What fusermount3 may answer, by one that is none: it says and hands over what a test wants.

import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { closeFile } from '../../../src/sys/file.ts';
import { detachByProgram, mountByProgram } from '../../../src/sys/fusermount.ts';
import { openDescriptors } from '../../helpers/descriptors.ts';
import { findProgram, missing } from '../../helpers/reference.ts';
import { tempDir } from '../../helpers/temp-dir.ts';

/** A program of this name, written in Python; `hand(count)` sends so many descriptors. */
function programIs(lines: string): void {
  const directory = tempDir();
  const head = `#!${findProgram('python3')}
import os, socket, sys
def hand(count):
    comm = socket.socket(fileno=int(os.environ["_FUSE_COMMFD"]))
    socket.send_fds(comm, [b"\\0"], [os.open("/dev/null", os.O_RDWR) for _ in range(count)])
`;
  writeFileSync(`${directory}/fusermount3`, head + lines, { mode: 0o755 });
  lookIn(`${directory}:${process.env['PATH']}`);
}

function lookIn(folders: string): void {
  const { PATH } = process.env;
  process.env['PATH'] = folders;
  onTestFinished(() => {
    process.env['PATH'] = PATH;
  });
}

const mount = (): Promise<number> => mountByProgram('/target', 'a=b');

const python = missing('python3');

describe.skipIf(python !== undefined)(`fusermount3${python ? ` (${python})` : ''}`, () => {
  it.each([
    ['is told what to mount where, and hands a descriptor over', 1],
    ['hands more over than it should: one is kept', 3],
  ])('%s', async (_, count) => {
    programIs(`assert sys.argv[1:] == ["-o", "a=b", "--", "/target"]\nhand(${count})\n`);
    const before = openDescriptors(process.pid);
    const fd = await mount();
    expect(openDescriptors(process.pid)).toBe(before + 1);
    closeFile(fd);
  });

  it('is told what to unmount', async () => {
    programIs('assert sys.argv[1:] == ["-u", "-z", "--", "/target"]\n');
    await detachByProgram('/target');
  });

  it.each([
    ['fails, and says why', 'sys.exit("no mount today")', 'no mount today'],
    ['fails in silence', 'sys.exit(3)', 'fusermount3 ended with 3'],
    ['is killed', 'os.kill(os.getpid(), 9)', 'fusermount3 ended with SIGKILL'],
    ['hands nothing over', 'pass', 'fusermount3 mounted nothing'],
    ['says a lot', 'sys.exit("x" * 100_000)', /^x{4096}$/],
  ] as const)('%s: nothing is left open', async (_, lines, message) => {
    programIs(lines);
    const before = openDescriptors(process.pid);
    await expect(mount()).rejects.toThrow(message);
    expect(openDescriptors(process.pid)).toBe(before);
  });

  it('hands more over than can be taken: what it mounted is taken away, and nothing is left open', async () => {
    const note = `${tempDir()}/note`;
    programIs(`
if sys.argv[1] == "-o": hand(17)
else: open(${JSON.stringify(note)}, "w").write(" ".join(sys.argv[1:]))
`);
    const before = openDescriptors(process.pid);
    await expect(mount()).rejects.toThrow(
      'fusermount3 could not hand a mount over: Too many open files',
    );
    expect(openDescriptors(process.pid)).toBe(before);
    expect(readFileSync(note, 'utf8')).toBe('-u -z -- /target');
  });

  it('is not there', async () => {
    lookIn(tempDir());
    await expect(mount()).rejects.toThrow('fusermount3 cannot be run: spawn fusermount3 ENOENT');
  });
});
