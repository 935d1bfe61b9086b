import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { attached, client, directory, registry, unix } from './registry-fixture.ts';

const CTRL_A = '\x01';

const addMux = (id: string, chardev: string) =>
  registry.add(id, { type: 'mux', data: { chardev } });

beforeEach(async () => {
  await registry.add('base', unix('m.sock', { wait: false }));
  await addMux('m', 'base');
});

describe('mux', () => {
  it('greets who comes before there is a peer, and again when one is there', async () => {
    const users = [attached('m'), attached('m')];
    for (const { listener } of users) await listener.until('open');
    await client('m.sock');
    for (const { listener } of users) await listener.until('open');
  });

  it('gives input to the last that came, and after Ctrl-A c to the next', async () => {
    const [first, second] = [attached('m').listener, attached('m').listener];
    const { socket: peer } = await client('m.sock');
    peer.write(`two${CTRL_A}cone${CTRL_A}cthree`);
    await first.until('open|open|one');
    await second.until('open|open|two|three');
  });

  it('knows an escape whose key comes later', async () => {
    const { listener } = attached('m');
    const { socket: peer } = await client('m.sock');
    peer.write(`a${CTRL_A}`);
    await listener.until('open|open|a');
    peer.write(`${CTRL_A}b`);
    await listener.until(`${CTRL_A}b`);
  });

  it('has room for four', () => {
    for (let n = 0; n < 4; n++) attached('m');
    expect(() => attached('m')).toThrow("Device 'm' is in use");
  });

  it('mixes what its users say', async () => {
    const [one, two] = [attached('m').chardev, attached('m').chardev];
    const peer = await client('m.sock');
    one.write(Buffer.from('1'));
    two.write(Buffer.from('2'));
    one.write(Buffer.from('3'));
    await peer.until('123');
  });

  it('tells all of them that the peer has left', async () => {
    const users = [attached('m').listener, attached('m').listener];
    const { socket: peer } = await client('m.sock');
    for (const listener of users) await listener.until('open|open');
    peer.destroy();
    for (const listener of users) await listener.until('close');
  });

  it('holds what comes for one that does not take it, and hears escapes behind it', async () => {
    const other = attached('m').listener;
    const { chardev, listener } = attached('m');
    const { socket: peer } = await client('m.sock');
    await listener.until('open|open');
    chardev.acceptInput(false);
    peer.write(`held${CTRL_A}cfree`);
    await other.until('open|open|free');
    expect(listener.heard).toEqual([]);
    chardev.acceptInput(true);
    await listener.until('held');
  });

  it('stops reading where much is held, and goes on from there', async () => {
    const { chardev, listener } = attached('m');
    const { socket: peer } = await client('m.sock');
    await listener.until('open|open');
    chardev.acceptInput(false);
    const text = 'x'.repeat(4 * 1024 * 1024);
    peer.write(text);
    for (let turn = 0; turn < 50; turn++) await new Promise((fulfil) => setImmediate(fulfil));
    let heard = 0;
    const all = new Promise<void>((fulfil) => {
      listener.onInput = ({ length }) => {
        heard += length;
        if (heard === text.length) fulfil();
      };
    });
    chardev.acceptInput(true);
    // What was held, at once: one chunk.
    expect(heard).toBeLessThanOrEqual(64 * 1024);
    await all;
  });

  it('shares a multiplexer once more', async () => {
    await addMux('n', 'm');
    const { chardev, listener } = attached('n');
    await listener.until('open');
    const peer = await client('m.sock');
    await listener.until('open');
    peer.socket.write(`a${CTRL_A}${CTRL_A}${CTRL_A}${CTRL_A}b`);
    await listener.until(`a|${CTRL_A}b`);
    chardev.write(Buffer.from('out'));
    await peer.until('out');
  });

  it('is open and in use as its base is', () => {
    const looks = () =>
      registry
        .query()
        .map((info) => `${info.label} ${info['frontend-open']}`)
        .sort();
    expect(looks()).toEqual(['base false', 'm false']);
    expect(() => registry.remove('base')).toThrow("Chardev 'base' is busy");
    attached('m');
    expect(looks()).toEqual(['base true', 'm true']);
    expect(() => registry.remove('m')).toThrow("Chardev 'm' is busy");
  });

  it('writes a log of its own', async () => {
    const logfile = join(directory, 'log');
    await registry.add('ring', { type: 'ringbuf', data: {} });
    await registry.add('logged', { type: 'mux', data: { chardev: 'ring', logfile } });
    attached('logged').chardev.write(Buffer.from('said'));
    expect(readFileSync(logfile, 'utf8')).toBe('said');
    expect(registry.ringbuf('ring').read(10).toString()).toBe('said');
  });
});
