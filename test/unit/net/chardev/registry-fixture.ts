// A registry of chardevs for each test, with a directory of its own, and peers for its sockets.

import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import type { Logger } from '../../../../src/base/log.ts';
import type { Chardev, ChardevFrontend } from '../../../../src/net/chardev/chardev.ts';
import { ChardevRegistry } from '../../../../src/net/chardev/chardev-registry.ts';
import type { ChardevOptions } from '../../../../src/net/chardev/command-line.ts';
import { QmpError } from '../../../../src/qapi/errors.ts';
import type { ChardevBackend, ChardevSocket } from '../../../../src/qapi/generated/types.ts';
import { Poller } from '../../../../src/sys/poller.ts';

export let directory: string;
export let poller: Poller;
export let registry: ChardevRegistry;
export let logged: string[];
export let printed: string[];
export let sockets: (Socket | Server)[];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'chardev-'));
  poller = new Poller();
  logged = [];
  printed = [];
  sockets = [];
  const log: Logger = {
    error: (text) => logged.push(text),
    warn: (text) => logged.push(text),
    debug() {},
  };
  registry = new ChardevRegistry({
    poller,
    log,
    print: (text) => printed.push(text),
    objects: {
      tlsCredentials: (id) => {
        const what =
          id === 'secret0'
            ? `Object with id '${id}' is not TLS credentials`
            : `No TLS credentials with id '${id}'`;
        throw new QmpError(what);
      },
      isAuthorized: () => false,
    },
  });
});

afterEach(async () => {
  for (const socket of sockets) {
    if ('destroy' in socket) socket.destroy();
    else socket.close();
  }
  await registry.close();
  poller.close();
  rmSync(directory, { recursive: true, force: true });
});

/** A user of a chardev that collects what it hears, and can be awaited. */
export class Listener implements ChardevFrontend {
  readonly heard: string[] = [];
  #waiting: (() => void)[] = [];

  onOpen(): void {
    this.#hear('open');
  }

  onClose(): void {
    this.#hear('close');
  }

  onInput(bytes: Uint8Array): void {
    this.#hear(Buffer.from(bytes).toString('latin1'));
  }

  onDrain(): void {
    this.#hear('drain');
  }

  /** Resolves when everything heard since the last call, joined, is `text`. */
  async until(text: string): Promise<void> {
    while (this.heard.join('|') !== text) {
      await new Promise<void>((fulfil) => {
        this.#waiting.push(fulfil);
      });
    }
    this.heard.length = 0;
  }

  #hear(what: string): void {
    this.heard.push(what);
    for (const fulfil of this.#waiting.splice(0)) fulfil();
  }
}

export function unix(name: string, more: Partial<ChardevSocket> = {}): ChardevBackend {
  const addr = { type: 'unix', data: { path: join(directory, name) } } as const;
  return { type: 'socket', data: { addr, ...more } };
}

export function attached(id: string): { chardev: Chardev; listener: Listener } {
  const chardev = registry.find(id);
  if (chardev === undefined) throw new Error(`no chardev ${id}`);
  const listener = new Listener();
  chardev.attach(listener);
  return { chardev, listener };
}

/** A client of a unix socket; `text()` resolves with what it received once that ends with `end`. */
export async function client(
  name: string,
): Promise<{ socket: Socket; until(end: string): Promise<string> }> {
  const socket = createConnection(join(directory, name));
  sockets.push(socket);
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1');
  });
  await new Promise((fulfil, reject) => {
    socket.once('connect', fulfil);
    socket.once('error', reject);
  });
  socket.on('error', () => {});
  return {
    socket,
    async until(end) {
      while (!text.endsWith(end)) await new Promise((fulfil) => socket.once('data', fulfil));
      return text;
    },
  };
}

export function failureOf(id: string, backend: ChardevBackend): Promise<string> {
  return registry.add(id, backend).then(
    () => 'no error',
    (error: Error) => error.message,
  );
}

export function filenames(): string[] {
  return registry.query().map(({ label, filename }) => `${label} ${filename}`);
}

/** `--chardev KIND,id=ID` with options. */
export function addOptions(kindAndId: string, options: Record<string, string>): Promise<void> {
  const [backend, id] = kindAndId.split(',');
  const values: Record<string, string> = { ...(backend && { backend }), ...options };
  const parsed: ChardevOptions = { id: id || undefined, get: (name) => values[name] };
  return registry.addFromCommandLine(parsed);
}
