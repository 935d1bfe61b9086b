// fusermount3, which mounts and unmounts for who may not do it: it comes with FUSE, owned by root and set-user-id. It hands
// the descriptor over through a socket that _FUSE_COMMFD names.

import { spawn } from 'node:child_process';
import { IoError } from '../base/errors.ts';
import { FdPassing } from './fd-passing.ts';
import { closeFile } from './file.ts';
import { allocate } from './memory.ts';
import { socketPair } from './socket.ts';

const PROGRAM = 'fusermount3';
/** Of the socket in the program. */
const COMM_FD = 3;
/** Of what the program says, more than enough for a person to read. */
const MAX_TEXT = 4096;

/** A failure that only words describe. */
export class FusermountError extends Error {
  override readonly name = 'FusermountError';
}

/** The descriptor of /dev/fuse, mounted at `target`. Rejects FusermountError. */
export async function mountByProgram(target: string, options: string): Promise<number> {
  const [ours, theirs] = socketPair();
  const descriptors: number[] = [];
  try {
    await run(['-o', options, '--', target], theirs);
    const byte = allocate(1);
    new FdPassing().receive(ours, byte.address, 1, descriptors);
    const fd = descriptors.shift();
    if (fd === undefined) throw new FusermountError(`${PROGRAM} mounted nothing`);
    return fd;
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    // Mounted, but what it could be served with is lost.
    await detachByProgram(target).catch(() => {});
    throw new FusermountError(`${PROGRAM} could not hand a mount over: ${error.reason}`);
  } finally {
    for (const each of [ours, theirs, ...descriptors]) closeFile(each);
  }
}

/** Takes a mount out of the tree at once. Rejects FusermountError. */
export async function detachByProgram(target: string): Promise<void> {
  await run(['-u', '-z', '--', target], undefined);
}

function run(args: readonly string[], socket: number | undefined): Promise<void> {
  return new Promise((fulfil, reject) => {
    const child = spawn(PROGRAM, args, {
      stdio: ['ignore', 'ignore', 'pipe', socket ?? 'ignore'],
      env: { ...process.env, _FUSE_COMMFD: String(COMM_FD) },
    });
    let said = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(0, MAX_TEXT);
    });
    child.on('error', (error) => {
      reject(new FusermountError(`${PROGRAM} cannot be run: ${error.message}`));
    });
    child.on('close', (code, signal) => {
      if (code === 0) fulfil();
      else reject(new FusermountError(said.trim() || `${PROGRAM} ended with ${code ?? signal}`));
    });
  });
}
