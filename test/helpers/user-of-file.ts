// A process that has a file open while a test goes on.

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { onTestFinished } from 'vitest';
import { type FileCall, fileCalls } from './fuse.ts';

/** A process that has a file open, and does with it what it is told. */
export class UserOfFile {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #answers: AsyncIterator<string>;

  private constructor(file: string) {
    this.#child = spawn('python3', [fileCalls, file]);
    this.#answers = createInterface(this.#child.stdout)[Symbol.asyncIterator]();
  }

  static async open(file: string, flags = 'O_RDWR'): Promise<UserOfFile> {
    const user = new UserOfFile(file);
    onTestFinished(() => void user.#child.kill('SIGKILL'));
    await user.call('open', flags);
    return user;
  }

  /** The line that the call is answered with. */
  async call(...call: FileCall): Promise<string> {
    this.#child.stdin.write(`${JSON.stringify(call)}\n`);
    const { value } = await this.#answers.next();
    return String(value);
  }

  /** It ends, and its files are closed. */
  async close(): Promise<void> {
    this.#child.stdin.end();
    await once(this.#child, 'close');
  }
}
