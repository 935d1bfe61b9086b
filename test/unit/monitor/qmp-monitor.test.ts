import { describe, expect, it } from 'vitest';
import { GREETING, gate, monitorFixture, NEGOTIATE, WITH_OOB } from './monitor-fixture.ts';

const error = (desc: string, errorClass = 'GenericError') =>
  `{"error": {"class": "${errorClass}", "desc": "${desc}"}}`;
const deleted = (id: string) => ({ id });

describe('QmpMonitor session', () => {
  it('greets, and knows one command until it has succeeded', async () => {
    const { chardev } = monitorFixture();
    expect(await chardev.lines(1)).toEqual([GREETING]);
    const expecting = error(
      "Expecting capabilities negotiation with 'qmp_capabilities'",
      'CommandNotFound',
    );
    expect(await chardev.ask('{"execute":"query-version"}')).toBe(expecting);
    expect(await chardev.ask('{"execute":"nope"}')).toBe(expecting);
    expect(await chardev.ask('{"execute":"qmp_capabilities","arguments":{"enable":["zz"]}}')).toBe(
      error("Parameter 'null' does not accept value 'zz'"),
    );
    expect(await chardev.ask(NEGOTIATE)).toBe('{"return": {}}');
    expect(await chardev.ask(NEGOTIATE)).toBe(
      error('Capabilities negotiation is already complete, command ignored', 'CommandNotFound'),
    );
    expect(await chardev.ask('{"execute":"nope"}')).toBe(
      error('The command nope has not been found', 'CommandNotFound'),
    );
  });

  it('echoes any id, behind the result and before an error', async () => {
    const { chardev } = monitorFixture();
    await chardev.lines(1);
    expect(await chardev.ask('{"execute":"qmp_capabilities","id":null}')).toBe(
      '{"return": {}, "id": null}',
    );
    expect(await chardev.ask('{"id":{"b":[1.50]},"execute":"nope"}')).toBe(
      '{"id": {"b": [1.5]}, "error": {"class": "CommandNotFound", "desc": "The command nope has not been found"}}',
    );
  });

  it.each([
    ['[]', 'QMP input must be a JSON object'],
    ['{}', "QMP input lacks member 'execute'"],
    ['{"execute":5}', "QMP input member 'execute' must be a string"],
    [
      '{"execute":"query-version","arguments":null}',
      "QMP input member 'arguments' must be an object",
    ],
    ['{"execute":"query-version","bogus":1}', "QMP input member 'bogus' is unexpected"],
    ['{"exec-oob":"query-version"}', "QMP input member 'exec-oob' is unexpected"],
    ['{"execute":"query-version","arguments":{"x":1}}', "Parameter 'x' is unexpected"],
    ['{"execute":"block_resize","arguments":{}}', "Parameter 'size' is missing"],
  ])('refuses %s', async (message, desc) => {
    const { chardev } = monitorFixture();
    chardev.feed(NEGOTIATE);
    await chardev.lines(2);
    expect(await chardev.ask(message)).toBe(error(desc));
  });

  it('allows exec-oob when negotiated, though no command may be run so', async () => {
    const { chardev } = monitorFixture();
    chardev.feed(WITH_OOB);
    await chardev.lines(2);
    expect(await chardev.ask('{"exec-oob":"query-version"}')).toBe(
      error('The command query-version does not support OOB'),
    );
    expect(await chardev.ask('{"exec-oob":"nope"}')).toBe(
      error('The command nope has not been found', 'CommandNotFound'),
    );
  });

  it('starts anew with each peer', async () => {
    const { chardev } = monitorFixture();
    chardev.feed(`${NEGOTIATE}{"execute":`);
    await chardev.lines(2);
    chardev.close();
    chardev.open();
    expect(await chardev.lines(1)).toEqual([GREETING]);
    expect(await chardev.ask('{"execute":"query-version"}')).toContain('CommandNotFound');
  });

  it('does not give a peer the answer that another waited for', async () => {
    const { passed, open } = gate();
    const { chardev } = monitorFixture({ 'query-block': () => passed.then(() => []) });
    chardev.feed(`${NEGOTIATE}{"execute":"query-block","id":"old"}`);
    await chardev.lines(2);
    chardev.close();
    chardev.open();
    chardev.feed(NEGOTIATE);
    open();
    expect(await chardev.lines(2)).toEqual([GREETING, '{"return": {}}']);
  });

  it('finishes what it was sent when the input ends, and answers where output is open', async () => {
    const { chardev } = monitorFixture();
    chardev.feed(
      `${NEGOTIATE}{"execute":"query-version","id":1}{"execute":"query-version","id":2}`,
    );
    chardev.close();
    const lines = await chardev.lines(4);
    expect(lines.slice(2).map((line) => line.slice(-8))).toEqual(['"id": 1}', '"id": 2}']);
  });

  it('writes one member a line with pretty, line ends included', async () => {
    const { another } = monitorFixture();
    const chardev = another({ pretty: true });
    chardev.take();
    chardev.feed(NEGOTIATE);
    await chardev
      .lines(4)
      .then((lines) => expect(lines).toEqual(['{', '    "return": {', '    }', '}']));
  });
});

describe('QmpMonitor order', () => {
  it('carries out one command at a time over all monitors', async () => {
    const { passed, open } = gate();
    const running: string[] = [];
    const { chardev, another } = monitorFixture({
      'query-block': async () => {
        running.push('begin');
        await passed;
        running.push('end');
        return [];
      },
      'query-chardev': () => {
        running.push('other');
        return [];
      },
    });
    const second = another();
    chardev.feed(NEGOTIATE);
    second.feed(NEGOTIATE);
    await chardev.lines(2);
    await second.lines(2);
    chardev.feed('{"execute":"query-block"}');
    second.feed('{"execute":"query-chardev"}');
    open();
    expect(await second.lines(1)).toEqual(['{"return": []}']);
    expect(running).toEqual(['begin', 'end', 'other']);
  });

  it('takes turns between monitors', async () => {
    const order: string[] = [];
    const { chardev, another } = monitorFixture({
      'query-block': () => (order.push('first'), []),
      'query-chardev': () => (order.push('second'), []),
    });
    const second = another();
    chardev.feed(WITH_OOB);
    second.feed(WITH_OOB);
    await chardev.lines(2);
    await second.lines(2);
    chardev.feed('{"execute":"query-block"}'.repeat(3));
    second.feed('{"execute":"query-chardev"}'.repeat(3));
    await second.lines(3);
    await chardev.lines(0);
    expect(order).toEqual(['first', 'second', 'first', 'second', 'first', 'second']);
  });

  it('sends events of a command before its answer, to every negotiated monitor', async () => {
    const { chardev, another, events } = monitorFixture({
      'block-export-del': ({ id }) => events.emit('BLOCK_EXPORT_DELETED', deleted(id)),
    });
    const second = another();
    const silent = another();
    chardev.feed(NEGOTIATE);
    second.feed(NEGOTIATE);
    await chardev.lines(2);
    await second.lines(2);
    silent.take();
    chardev.feed('{"execute":"block-export-del","arguments":{"id":"e"}}');
    const [event, answer] = await chardev.lines(2);
    expect(event).toMatch(
      /^\{"timestamp": \{"seconds": \d+, "microseconds": \d+\}, "event": "BLOCK_EXPORT_DELETED", "data": \{"id": "e"\}\}$/,
    );
    expect(answer).toBe('{"return": {}}');
    expect(await second.lines(1)).toEqual([event]);
    expect(silent.take()).toBe('');
  });

  it('answers quit after what it causes, and nothing behind it', async () => {
    const { chardev, events, queue, monitor } = monitorFixture({
      quit: async () => {
        await Promise.resolve();
        events.emit('BLOCK_EXPORT_DELETED', deleted('e'));
        void queue.close().then(() => monitor.close());
      },
    });
    chardev.feed(`${NEGOTIATE}{"execute":"quit"}{"execute":"query-version"}`);
    const lines = await chardev.lines(4);
    await queue.close();
    expect(lines[2]).toContain('BLOCK_EXPORT_DELETED');
    expect(lines[3]).toBe('{"return": {}}');
    expect(chardev.take()).toBe('');
  });

  it('lets what a command has set off come to its end before the next', async () => {
    const { chardev, events } = monitorFixture({
      // As clients of the export do.
      'block-export-del': ({ id }) => {
        setImmediate(() => events.emit('BLOCK_EXPORT_DELETED', deleted(id)));
      },
      'query-block': () => [],
    });
    chardev.feed(
      `${NEGOTIATE}{"execute":"block-export-del","arguments":{"id":"e"}}{"execute":"query-block"}`,
    );
    const lines = await chardev.lines(5);
    expect(lines[2]).toBe('{"return": {}}');
    expect(lines[3]).toContain('BLOCK_EXPORT_DELETED');
    expect(lines[4]).toBe('{"return": []}');
  });

  it('keeps commands waiting until the queue is started', async () => {
    const { CommandQueue } = await import('../../../src/monitor/command-queue.ts');
    const { silentLogger } = await import('../../../src/base/log.ts');
    const queue = new CommandQueue(silentLogger);
    const ran: string[] = [];
    const done = gate();
    queue.add(async () => {
      ran.push('turn');
      done.open();
    });
    await import('p-queue');
    await new Promise(setImmediate);
    expect(ran).toEqual([]);
    queue.start();
    await done.passed;
    expect(ran).toEqual(['turn']);
  });
});

describe('QmpMonitor back-pressure', () => {
  it('reads on, even to the end of the input, only when the command in hand is answered', async () => {
    const { passed, open } = gate();
    const begun = gate();
    let calls = 0;
    const { chardev } = monitorFixture({
      'query-block': async () => {
        calls += 1;
        begun.open();
        await passed;
        return [];
      },
    });
    chardev.feed(NEGOTIATE);
    await chardev.lines(2);
    chardev.feed('{"execute":"query-block"}'.repeat(3));
    expect(chardev.accepting).toBe(false);
    await begun.passed;
    expect(calls).toBe(1);
    open();
    await chardev.lines(3);
    expect([calls, chardev.accepting]).toEqual([3, true]);
  });

  it('queues eight commands beside the one in hand with oob, then stops reading', async () => {
    const { passed, open } = gate();
    const begun = gate();
    const { chardev } = monitorFixture({
      'query-block': async () => {
        begun.open();
        await passed;
        return [];
      },
    });
    chardev.feed(WITH_OOB);
    await chardev.lines(2);
    const command = '{"execute":"query-block"}';
    chardev.feed(command);
    await begun.passed;
    chardev.feed(`${command.repeat(7)}{"exec-oob":"nope","id":1}`);
    expect(chardev.accepting).toBe(true);
    expect(await chardev.lines(1)).toEqual([expect.stringContaining('"id": 1')]);
    chardev.feed(command);
    expect(chardev.accepting).toBe(false);
    open();
    await chardev.lines(9);
    expect(chardev.accepting).toBe(true);
  });

  it('begins nothing while the peer does not read, and goes on when it does', async () => {
    let calls = 0;
    const { chardev } = monitorFixture({
      'query-block': () => {
        calls += 1;
        return [];
      },
    });
    chardev.feed(NEGOTIATE);
    await chardev.lines(2);
    chardev.reading = false;
    chardev.feed('{"execute":"query-block"}'.repeat(50));
    await chardev.lines(1);
    await new Promise(setImmediate);
    expect([calls, chardev.accepting]).toEqual([1, false]);
    chardev.drain();
    await chardev.lines(49);
    expect([calls, chardev.accepting]).toEqual([50, true]);
  });

  it('keeps a bounded amount of events for a peer that does not read', async () => {
    const { chardev, events, logged } = monitorFixture();
    chardev.feed(NEGOTIATE);
    await chardev.lines(2);
    chardev.reading = false;
    const id = 'x'.repeat(1024 * 1024);
    for (let i = 0; i < 40; i += 1) events.emit('BLOCK_EXPORT_DELETED', deleted(id));
    expect(chardev.take().length).toBeLessThan(20 * id.length);
    expect(logged).toEqual(["warning: Monitor 'loop' does not read; events are lost to it"]);
    chardev.drain();
    events.emit('BLOCK_EXPORT_DELETED', deleted('e'));
    expect(chardev.take()).toContain('"id": "e"');
  });
});

describe('QmpMonitor and faults', () => {
  it('answers a command whose handler fails unexpectedly, logs it once and goes on', async () => {
    const { chardev, logged } = monitorFixture({
      'query-block': () => {
        throw new TypeError('x is undefined');
      },
      'query-chardev': () => Promise.reject(new Error('later')),
    });
    chardev.feed(NEGOTIATE);
    await chardev.lines(2);
    expect(await chardev.ask('{"execute":"query-block"}')).toBe(
      error('Internal error: x is undefined'),
    );
    expect(await chardev.ask('{"execute":"query-chardev"}')).toBe(error('Internal error: later'));
    expect(logged).toEqual([
      'error: Command "query-block" failed unexpectedly: x is undefined',
      'error: Command "query-chardev" failed unexpectedly: later',
    ]);
    expect(await chardev.ask('{"execute":"query-version","id":1}')).toContain('"id": 1');
  });

  it('cuts an error flood short, and is in step behind it', async () => {
    const { chardev } = monitorFixture();
    chardev.feed(NEGOTIATE);
    await chardev.lines(2);
    chardev.feed(`${'] '.repeat(100_000)}{"execute":"nope"}`);
    const lines = await chardev.lines(66);
    expect(new Set(lines.slice(0, 64))).toEqual(
      new Set([error('JSON parse error, expecting value')]),
    );
    expect(lines[64]).toContain('too many errors in a row');
    expect(lines[65]).toContain('CommandNotFound');
    expect(chardev.take()).toBe('');
  });

  it('answers each bad message of a peer that waits for the answer', async () => {
    const { chardev } = monitorFixture();
    chardev.take();
    for (let i = 0; i < 3000; i += 1) {
      expect(await chardev.ask('] ')).toBe(error('JSON parse error, expecting value'));
    }
  });
});
