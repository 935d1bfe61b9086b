# A session with a monitor by QEMU's own Python client of QMP, its asynchronous side and its legacy one: prints what it gets.
# usage: session.py SOCKET

import asyncio
import json
import sys

from qemu.qmp import QMPClient
from qemu.qmp.legacy import QEMUMonitorProtocol
from qemu.qmp.qmp_client import ExecuteError, ServerParseError


def show(what, value):
    print(what, json.dumps(value, default=dict))


async def attempt(client, command, arguments=None, oob=False):
    try:
        show(command, await client.execute(command, arguments, oob=oob))
    except ExecuteError as error:
        show(command, [error.error_class, str(error)])


def creation(job, filename):
    return {'job-id': job, 'options': {'driver': 'file', 'filename': filename, 'size': 65536}}


async def asynchronous(path):
    client = QMPClient()
    await client.connect(path)
    show('capabilities', client.greeting.QMP.capabilities)
    await attempt(client, 'qmp_capabilities')
    await attempt(client, 'query-jobs', oob=True)
    await attempt(client, 'no-such-command')
    await attempt(client, 'blockdev-add', {'driver': 'null-co', 'node-name': 'n', 'size': 65536})
    await attempt(client, 'blockdev-add', {'driver': 'null-co', 'node-name': 'n'})
    await attempt(client, 'blockdev-add', {'driver': 'null-co', 'node-name': 7})
    await attempt(client, 'query-named-block-nodes', {'flat': True})
    # An answer in one line, which the client allows to be 256 KiB long.
    schema = await client.execute('query-qmp-schema')
    show('schema', [entry['name'] for entry in schema if entry['name'] == 'blockdev-del'])
    names = ['query-version', 'query-block-exports', 'query-jobs', 'query-named-block-nodes']
    answers = await asyncio.gather(*(client.execute(name) for name in names))
    show('several at once', [type(answer).__name__ for answer in answers])
    with client.listener('JOB_STATUS_CHANGE') as listener:
        await attempt(client, 'blockdev-create', creation('a', 'a.img'))
        async for event in listener:
            show('event', [list(event), event['data']])
            if event['data']['status'] == 'concluded':
                break
        await attempt(client, 'query-jobs')
        await attempt(client, 'job-dismiss', {'id': 'a'})
        show('event', (await listener.get())['data'])
    await attempt(client, 'blockdev-del', {'node-name': 'n'})
    await client.disconnect()
    # The same client once more, with bytes that are no JSON.
    await client.connect(path)
    client._writer.write(b'{"execute": nonsense }\n')
    await client.runstate_changed()
    try:
        await client.disconnect()
    except ServerParseError as error:
        show('no JSON', error.msg)


def legacy(path):
    client = QEMUMonitorProtocol(path)
    show('greeting', list(client.connect()['QMP']))
    show('a second time', client.cmd('qmp_capabilities'))
    show('with an identifier', client.cmd_obj({'execute': 'query-jobs', 'id': 'mine'}))
    show('unknown argument', client.cmd('query-named-block-nodes', {'no-such': 1}))
    try:
        client.command('blockdev-del', **{'node-name': 'nobody'})
    except ExecuteError as error:
        show('blockdev-del', str(error))
    show('events', client.get_events())
    show('blockdev-create', client.cmd('blockdev-create', creation('b', 'b.img')))
    for _ in range(5):
        show('event', client.pull_event(wait=True)['data'])
    show('job-dismiss', client.command('job-dismiss', id='b'))
    show('event', client.pull_event(wait=True)['data'])
    with open('b.img', 'rb') as file:
        client.send_fd_scm(file.fileno())
    show('after a descriptor', client.cmd('query-jobs'))
    show('quit', client.cmd('quit'))
    try:
        client.close()
    except EOFError:
        pass


asyncio.run(asynchronous(sys.argv[1]))
asyncio.set_event_loop(asyncio.new_event_loop())
legacy(sys.argv[1])
