import { createServer, type Socket } from 'node:net';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { QmpClient, type QmpClientOptions } from '../../../src/client/qmp-client.ts';
import { idOf } from '../../helpers/events.ts';
import { tempDir } from '../../helpers/temp-dir.ts';
import { uncaughtErrors } from '../../helpers/uncaught-errors.ts';

const greeting =
  '{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "p"}, "capabilities": ["oob"]}}\r\n';

interface Request {
  readonly execute: string;
  readonly arguments: unknown;
  readonly id: number;
}

interface PeerOptions {
  readonly first?: string;
  /** Told of each line that comes. */
  readonly heard?: (line: string) => void;
}

/** A peer that greets, negotiates and leaves everything else to `answer`. */
async function peer(
  answer: (request: Request, socket: Socket) => void,
  { first = greeting, heard = () => {} }: PeerOptions = {},
): Promise<string> {
  const address = path.join(tempDir(), 's');
  const server = createServer((socket) => {
    socket.write(first);
    let text = '';
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      const lines = text.split('\n');
      text = lines.pop() ?? '';
      for (const line of lines) {
        heard(line);
        const request = JSON.parse(line) as Request;
        if (request.execute === 'qmp_capabilities') {
          socket.write(`{"return": {}, "id": ${request.id}}\r\n`);
        } else answer(request, socket);
      }
    });
    socket.on('error', () => {});
  });
  await new Promise<void>((resolve) => server.listen(address, resolve));
  onTestFinished(() => void server.close());
  return address;
}

async function clientOf(address: string, options?: QmpClientOptions): Promise<QmpClient> {
  const client = await QmpClient.connect({ path: address }, options);
  onTestFinished(() => client.close());
  return client;
}

const deleted = (id: string) =>
  `{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "BLOCK_EXPORT_DELETED", "data": {"id": "${id}"}}\r\n`;

describe('QmpClient', () => {
  it('greets, sends commands and returns what they return', async () => {
    const requests: Request[] = [];
    const address = await peer((request, socket) => {
      requests.push(request);
      socket.write(`{"return": [{"a": 1.5}], "id": ${request.id}}\r\n`);
    });
    const client = await clientOf(address);
    expect(client.greeting.version.qemu).toEqual({ major: 7, minor: 2, micro: 22 });
    expect(await client.execute('query-block-exports')).toEqual([{ a: 1.5 }]);
    await client.execute('blockdev-del', { 'node-name': 'n' });
    expect(requests.map(({ execute, arguments: args }) => [execute, args])).toEqual([
      ['query-block-exports', {}],
      ['blockdev-del', { 'node-name': 'n' }],
    ]);
  });

  it('takes the path of a socket, and tells of events by their names', async () => {
    const address = await peer(({ id }, socket) => {
      socket.write(`{"timestamp": {}, "event": "JOB_STATUS_CHANGE", "data": {"id": "j"}}\r\n`);
      socket.write(`${deleted('e')}{"return": {}, "id": ${id}}\r\n`);
    });
    const client = await QmpClient.connect(address);
    onTestFinished(() => client.close());
    const gone: string[] = [];
    const stop = client.on('BLOCK_EXPORT_DELETED', ({ id }) => gone.push(id));
    await client.execute('nbd-server-stop');
    stop();
    await client.execute('nbd-server-stop');
    expect(gone).toEqual(['e']);
  });

  it('gives each of several commands its own answer, whatever their order', async () => {
    const held: Request[] = [];
    const address = await peer((request, socket) => {
      held.push(request);
      if (held.length < 3) return;
      for (const { id, execute } of held.reverse()) {
        socket.write(`{"return": "${execute}", "id": ${id}}\r\n`);
      }
    });
    const client = await clientOf(address);
    const names = ['query-block', 'query-chardev', 'query-version'] as const;
    expect(await Promise.all(names.map((name) => client.execute(name)))).toEqual(names);
  });

  it('throws errors with their class and text', async () => {
    const address = await peer(({ id }, socket) =>
      socket.write(`{"id": ${id}, "error": {"class": "DeviceNotFound", "desc": "No x"}}\r\n`),
    );
    const client = await clientOf(address);
    await expect(client.execute('qom-list', { path: 'x' })).rejects.toMatchObject({
      name: 'QmpError',
      class: 'DeviceNotFound',
      desc: 'No x',
    });
  });

  it('hands events to listeners, to iterators and to those who wait', async () => {
    const address = await peer(({ id }, socket) =>
      socket.write(`${deleted('a')}${deleted('b')}{"return": {}, "id": ${id}}\r\n`),
    );
    const client = await clientOf(address);
    const heard: string[] = [];
    const stop = client.onEvent(({ event, data }) => heard.push(`${event} ${idOf(data)}`));
    const events = client.events();
    const second = client.waitForEvent('BLOCK_EXPORT_DELETED', { accept: ({ id }) => id === 'b' });
    await client.execute('nbd-server-stop');
    stop();
    expect(await second).toEqual({ id: 'b' });
    expect(heard).toEqual(['BLOCK_EXPORT_DELETED a', 'BLOCK_EXPORT_DELETED b']);
    expect((await events.next()).value).toMatchObject({
      data: { id: 'a' },
      timestamp: { seconds: 1 },
    });
    expect((await events.next()).value).toMatchObject({ data: { id: 'b' } });
    client.close();
    expect((await events.next()).done).toBe(true);
  });

  it("loses nothing when a listener throws; the error is the program's", async () => {
    const address = await peer(({ id }, socket) =>
      socket.write(`${deleted('a')}{"return": {}, "id": ${id}}\r\n`),
    );
    const client = await clientOf(address);
    const uncaught = uncaughtErrors();
    const fault = new Error('of the listener');
    const heard: string[] = [];
    client.onEvent(() => {
      throw fault;
    });
    client.onEvent(({ data }) => heard.push(idOf(data)));
    const choosing = client.waitForEvent('BLOCK_EXPORT_DELETED', {
      accept: () => {
        throw new Error('of the choice');
      },
    });
    choosing.catch(() => {});
    expect(await client.execute('nbd-server-stop')).toEqual({});
    await expect(choosing).rejects.toThrow('of the choice');
    expect(heard).toEqual(['a']);
    expect(uncaught).toEqual([fault]);
  });

  it('ends an iterator at once, whether it is waiting or was never used', async () => {
    const address = await peer(({ id }, socket) =>
      socket.write(`${deleted('a')}{"return": {}, "id": ${id}}\r\n`),
    );
    const client = await clientOf(address);
    const [waiting, unused] = [client.events(), client.events()];
    const next = waiting.next();
    await waiting.return?.();
    await unused.return?.();
    expect(await next).toEqual({ done: true, value: undefined });
    await client.execute('nbd-server-stop');
    expect(await unused.next()).toEqual({ done: true, value: undefined });
  });

  it('says a bigint as the integer that it is', async () => {
    const lines: string[] = [];
    const address = await peer(
      ({ id }, socket) => socket.write(`{"return": {}, "id": ${id}}\r\n`),
      {
        heard: (line) => lines.push(line),
      },
    );
    const client = await clientOf(address);
    await client.executeAny('a', { size: 4096n });
    await client.executeAny('a', { size: 2n ** 60n });
    expect(lines.map((line) => /"size": ?(\d+)/.exec(line)?.[1])).toEqual([
      undefined,
      '4096',
      '1152921504606846976',
    ]);
  });

  it('refuses arguments that no JSON can say, and waits for no answer to them', async () => {
    const client = await clientOf(await peer(() => {}));
    const endless: { self?: object } = {};
    endless.self = endless;
    await expect(client.executeAny('x', endless)).rejects.toThrow(TypeError);
    const uncaught = uncaughtErrors('unhandledRejection');
    client.close();
    await new Promise(setImmediate);
    expect(uncaught).toEqual([]);
  });

  it('takes a time that is longer than a timer can wait', async () => {
    const address = await peer(({ id }, socket) => socket.write(`{"return": 1, "id": ${id}}\r\n`));
    const client = await clientOf(address, { timeoutMs: 2 ** 40 });
    expect(await client.executeAny('x')).toBe(1);
  });

  it('gives up on what takes too long', async () => {
    const silent = await peer(() => {});
    const client = await clientOf(silent);
    await expect(client.execute('query-block', {}, { timeoutMs: 20 })).rejects.toThrow(
      'No response within 20 ms',
    );
    await expect(client.waitForEvent('BLOCK_EXPORT_DELETED', { timeoutMs: 20 })).rejects.toThrow(
      'No event BLOCK_EXPORT_DELETED within 20 ms',
    );
    const mute = await peer(() => {}, { first: '' });
    await expect(clientOf(mute, { timeoutMs: 20 })).rejects.toThrow('No greeting within 20 ms');
  });

  it('ends waiting commands when the connection ends', async () => {
    const address = await peer((_request, socket) => socket.destroy());
    const client = await clientOf(address);
    await expect(client.execute('quit')).rejects.toThrow('The connection was closed');
    await expect(client.execute('query-block')).rejects.toThrow('The connection was closed');
  });

  it('says what is wrong with an answer that is no QMP', async () => {
    const address = await peer((_request, socket) => socket.write('}\r\n'));
    const client = await clientOf(address);
    await expect(client.execute('quit')).rejects.toThrow('Not QMP: JSON parse error');
  });

  it('says why there is no connection', async () => {
    await expect(clientOf('/nonexistent/socket')).rejects.toMatchObject({ code: 'ENOENT' });
    const wrong = await peer(() => {}, { first: 'NBDMAGIC\r\n' });
    await expect(clientOf(wrong)).rejects.toThrow('Not QMP');
  });
});
