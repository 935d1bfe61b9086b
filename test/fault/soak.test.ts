// The daemon for a minute under random clients, good and hostile, while exports and the server come and go over QMP. Longer,
// and with other clients, by hand: `make soak`, SOAK_SECONDS; SOAK_SEED for what happened before.

import { expect, it, onTestFinished } from 'vitest';
import { waitUntil } from '../conformance/daemon-process.ts';
import { numbersFrom } from '../fuzz/budget.ts';
import { clientFiles, contentOf, fixture, serverFiles } from '../helpers/tls-files.ts';
import { exported, type Served, serve } from '../interop/serve.ts';
import { type Door, hostile, type Random, wellBehaved } from './soak-peers.ts';

const MIB = 1024 * 1024;
const IMAGE_SIZE = 32 * MIB;
const seconds = Number(process.env['SOAK_SECONDS'] ?? 60);
const seed = Number(process.env['SOAK_SEED'] ?? 1);

/** After each round everybody leaves, and what the daemon holds then is looked at. */
const ROUNDS = 4;
const GOOD = 3;
const HOSTILE = 6;

/** Kilobytes by which the daemon, without clients, may have grown since the end of the first round. */
const GROWTH_KIB = 48 * 1024;

/** Milliseconds after which the server has given back the memory of connections, and some. */
const QUIET_MS = 1500;

/** What may be on stderr: what the daemon logs of peers that do not play by the rules. */
const expectedLine =
  /^qmp-storage-daemon: (?:option negotiation failed|Disconnect client, due to|write failed): /;

const readOnlyExport = { type: 'nbd', id: 'r', 'node-name': 'f', name: 'ro' };
const writableExport = { type: 'nbd', id: 'e', 'node-name': 'f', name: 'ex', writable: true };

/** Everything that can be done over QMP without harm to the image, one at a time. */
class Operator {
  readonly #served: Served;
  readonly #server: object;
  #count = 0;

  /** `server`: what nbd-server-start is told beside the address. */
  constructor(served: Served, server: object) {
    this.#served = served;
    this.#server = server;
  }

  async act(random: Random): Promise<void> {
    const { qmp } = this.#served;
    const what = random();
    if (what < 0.15) await this.restart();
    else if (what < 0.5) await this.#passingExport(random() < 0.5);
    else if (what < 0.6) await qmp.expect('query-named-block-nodes');
    else await qmp.expect('query-block-exports');
  }

  /** Stops the server, and all exports with it, and starts it again. */
  async restart(): Promise<void> {
    const { qmp, socket } = this.#served;
    await qmp.expect('nbd-server-stop');
    await this.#exportsGone(() => true);
    await this.start(socket);
  }

  async start(path: string): Promise<void> {
    const { qmp } = this.#served;
    const addr = { type: 'unix', data: { path } };
    await qmp.expect('nbd-server-start', {
      addr,
      'handshake-max-seconds': 1,
      ...this.#server,
    });
    await qmp.expect('block-export-add', writableExport);
    await qmp.expect('block-export-add', readOnlyExport);
  }

  async #passingExport(hard: boolean): Promise<void> {
    const { qmp } = this.#served;
    const id = `p${this.#count++}`;
    await qmp.expect('blockdev-add', { driver: 'null-co', 'node-name': id, size: MIB });
    await qmp.expect('block-export-add', { type: 'nbd', id, 'node-name': id, name: id });
    await qmp.expect('block-export-del', { id, ...(hard ? { mode: 'hard' } : {}) });
    await this.#exportsGone((known) => known === id);
    await qmp.expect('blockdev-del', { 'node-name': id });
  }

  async #exportsGone(which: (id: string) => boolean): Promise<void> {
    for (;;) {
      const left = (await this.#served.qmp.expect('query-block-exports')) as { id: string }[];
      if (!left.some(({ id }) => which(id))) return;
    }
  }
}

const timeout = (seconds + 90) * 1000;

it(`stays well for ${seconds} s`, { timeout }, async () => {
  const served = await serve({
    files: [{ name: 'a.img', length: IMAGE_SIZE }],
    arguments: exported('a.img'),
  });
  await soak(served, { socket: served.socket }, { seconds, server: {} });
});

it(`stays well for ${seconds / 3} s with TLS`, { timeout }, async () => {
  const keys = Object.entries({ ...serverFiles, ...clientFiles() });
  const served = await serve({
    files: [
      { name: 'a.img', length: IMAGE_SIZE },
      ...keys.map(([name, source]) => ({ name, text: contentOf(source) })),
    ],
    arguments: ['--object', 'tls-creds-x509,id=t,dir=@DIR@,endpoint=server', ...exported('a.img')],
  });
  const identity = {
    ca: fixture('ca-cert.pem'),
    cert: fixture('client-cert.pem'),
    key: fixture('client-key.pem'),
    checkServerIdentity: () => undefined,
  };
  const door = { socket: served.socket, identity };
  await soak(served, door, { seconds: seconds / 3, server: { 'tls-creds': 't' } });
});

async function soak(
  served: Served,
  door: Door,
  plan: { readonly seconds: number; readonly server: object },
): Promise<void> {
  console.log(`SOAK_SEED=${seed}`);
  onTestFinished(async () => {
    await served.daemon.stop();
  });
  const { daemon, qmp } = served;
  const operator = new Operator(served, plan.server);
  await qmp.expect('block-export-add', readOnlyExport);
  await operator.restart();
  // With its first stream, which only TLS has, libuv puts a descriptor by for the time when there is none left.
  const descriptors = daemon.openDescriptors() + (door.identity === undefined ? 0 : 1);
  const resident: number[] = [];
  let rounds = 0;
  let attacks = 0;

  for (let round = 0; round < ROUNDS; round++) {
    const end = Date.now() + (plan.seconds * 1000) / ROUNDS - QUIET_MS;
    const until = async (stream: number, work: (random: Random) => Promise<void>) => {
      const random = numbersFrom(seed + round * 1000 + stream);
      while (Date.now() < end) await work(random);
    };
    const share = IMAGE_SIZE / GOOD;
    const range = (of: number) => ({ offset: Math.floor(of * share), length: Math.floor(share) });
    const good = Array.from({ length: GOOD }, async (_, index) =>
      until(index, async (random) => {
        const outcome = await unlessRefused(wellBehaved(door, range(index), random));
        if (outcome === 'served') rounds++;
      }),
    );
    const bad = Array.from({ length: HOSTILE }, async (_, index) =>
      until(100 + index, async (random) => {
        await unlessRefused(hostile(door, random));
        attacks++;
      }),
    );
    const operating = until(200, async (random) => {
      await operator.act(random);
      await new Promise((resolve) => setTimeout(resolve, 20 + 200 * random()));
    });
    await Promise.all([...good, ...bad, operating]);
    await waitUntil(() => daemon.openDescriptors() <= descriptors, 30_000);
    await new Promise((resolve) => setTimeout(resolve, QUIET_MS));
    resident.push(daemon.residentKilobytes());
    const last = numbersFrom(seed + round);
    const visit = () => wellBehaved(door, range(0), last);
    // Once more, where the machine stands still for the second that a handshake may take.
    const first = await visit();
    expect(first === 'served' ? first : await visit()).toBe('served');
  }

  // How much is done in the time is the machine's business; that it was no idle time is ours.
  expect(rounds).toBeGreaterThan(4);
  expect(attacks).toBeGreaterThan(8);
  const [first = 0] = resident;
  expect(Math.max(...resident) - first, `resident: ${resident.join(' ')}`).toBeLessThan(GROWTH_KIB);
  const surprises = daemon.stderr.split('\n').filter((line) => line && !expectedLine.test(line));
  expect(surprises.slice(0, 5)).toEqual([]);
  expect(await served.stop()).toBe('<exit 0>');
}

/** While the server is stopped nobody can connect. */
async function unlessRefused<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT' && code !== 'ECONNREFUSED' && code !== 'ECONNRESET') throw error;
    await new Promise((resolve) => setTimeout(resolve, 10));
    return undefined;
  }
}
