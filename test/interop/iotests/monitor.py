# A QMP monitor of a storage daemon as QEMU's own tests expect it of a virtual machine. Between the test and the daemon, it answers
# what a storage daemon does not know: `human-monitor-command` with `qemu-io`, by an NBD export of the node and the real qemu-io,
# or with `block_resize`; `query-block` for the drives; and the event SHUTDOWN.
# usage: monitor.py DIRECTORY [SOCKET]
# In DIRECTORY are the sockets that the daemon connects to, `monitor` and `control`; when they listen, `ready`. The test is on stdin
# and stdout, or it listens on SOCKET. In the environment are the nodes of DRIVES, and the drives of DEVICES, as pairs NAME=NAME.

import ast
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time

EXPORT = 'human-monitor'
START_LIMIT_S = 60


class Control:
    """A second monitor of the daemon."""

    def __init__(self, connection):
        self.stream = connection.makefile('rw')
        self.stream.readline()
        self.execute('qmp_capabilities')

    def execute(self, command, **arguments):
        self.stream.write(json.dumps({'execute': command, 'arguments': arguments}) + '\n')
        self.stream.flush()
        while True:
            answer = json.loads(self.stream.readline())
            if 'event' not in answer:
                return answer


class Machine:
    """What a virtual machine can do and a storage daemon cannot."""

    def __init__(self, control, directory, drives):
        self.control, self.directory, self.drives = control, directory, drives

    def answer(self, command):
        """What is printed, and what is returned."""
        if command['execute'] == 'query-block':
            return '', self.query_block()
        line = command['arguments']['command-line']
        name, drive, rest = re.fullmatch(r'(\S+) ?(?:-d )?(\S*) ?(.*)', line).groups()
        drive = pairs('DEVICES').get(drive, drive)
        node = self.drives.get(drive, drive)
        if name == 'qemu-io':
            return self.qemu_io(node, rest.strip('"'))
        if name == 'block_resize':
            size = int(rest.removesuffix('G')) << 30
            self.control.execute('block_resize', **{'node-name': node, 'size': size})
            return '', ''
        return '', f'unknown command: {name}\r\n'

    def query_block(self):
        found = self.control.execute('query-named-block-nodes')['return']
        nodes = {node['node-name']: node for node in found}
        fixed = {'type': 'unknown', 'removable': False, 'locked': False}
        return [{'device': drive, **fixed, 'inserted': nodes[node]}
                for drive, node in self.drives.items() if node in nodes]

    def qemu_io(self, node, command):
        path = os.path.join(self.directory, 'nbd')
        self.control.execute('nbd-server-start', addr={'type': 'unix', 'data': {'path': path}})
        export = {'type': 'nbd', 'id': EXPORT, 'node-name': node, 'name': ''}
        for writable in (True, False):
            answer = self.control.execute('block-export-add', writable=writable, **export)
            if 'error' not in answer:
                break
        else:
            self.control.execute('nbd-server-stop')
            return '', f"Error: {answer['error']['desc']}\r\n"
        mode = [] if writable else ['-r']
        uri = f'nbd+unix://?socket={path}'
        ran = subprocess.run([os.environ['QEMU_IO_PROG'], *mode, '-f', 'raw', '-c', command, uri],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.control.execute('nbd-server-stop')
        return ran.stdout, ''


class Requests:
    """Cuts what the test sends into commands, by their braces; it may write them over lines and in single quotes."""

    def __init__(self):
        self.text, self.depth, self.quote = '', 0, ''

    def feed(self, text):
        for letter in text:
            self.text += letter
            if self.quote:
                if letter == self.quote and not self.text.endswith('\\' + letter):
                    self.quote = ''
            elif letter in '"\'':
                self.quote = letter
            elif letter in '{}':
                self.depth += 1 if letter == '{' else -1
                if self.depth == 0:
                    yield self.text
                    self.text = ''


class Session:
    """The test's session with the daemon."""

    def __init__(self, daemon, control, test):
        self.daemon, self.control, self.test = daemon, control, test
        self.answered = threading.Semaphore(0)
        self.quits = False

    def receive(self):
        return self.test.recv(65536) if self.test else os.read(0, 65536)

    def send(self, data):
        if self.test:
            self.test.sendall(data)
        else:
            os.write(1, data)

    def forth(self, directory, drives):
        machine = None
        requests = Requests()
        unanswered = 0
        while data := self.receive():
            for request in requests.feed(data.decode()):
                if (command := own(request, drives)) is None:
                    self.quits = self.quits or names(request, 'quit')
                    for drive, node in drives.items():
                        request = re.sub(f'(["\']){drive}\\1', f'"{node}"', request)
                    self.daemon.sendall(request.encode() + b'\n')
                    unanswered += 1
                    continue
                for _ in range(unanswered):
                    self.answered.acquire()
                unanswered = 0
                machine = machine or Machine(Control(self.control), directory, drives)
                printed, returned = machine.answer(command)
                if not self.test:
                    self.send(printed.encode())
                identified = {key: command[key] for key in command if key == 'id'}
                self.send(json.dumps({'return': returned, **identified}).encode() + b'\r\n')
        self.daemon.shutdown(socket.SHUT_WR)

    def back(self):
        pretty = False
        with contextlib.suppress(ConnectionError), self.daemon.makefile('rb') as stream:
            pretty = b'QMP' not in stream.peek()[:8]
            for line in stream:
                if b'"event"' in line and EXPORT.encode() in line:
                    continue
                if line.startswith((b'{"return"', b'{"error"', b'}')):
                    self.answered.release()
                self.send(line)
        if self.quits:
            seconds, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
            event = {'timestamp': {'seconds': seconds, 'microseconds': microseconds}, 'event': 'SHUTDOWN',
                     'data': {'guest': False, 'reason': 'host-qmp-quit'}}
            with contextlib.suppress(ConnectionError):
                self.send(json.dumps(event, indent=4 if pretty else None).encode() + b'\r\n')


def pairs(variable):
    return dict(pair.split('=') for pair in os.environ[variable].split())


def names(request, commands):
    return re.search(rf'execute\W+({commands})\b', request) is not None


def own(request, drives):
    """A command that the daemon does not get, parsed, or None."""
    if not names(request, 'human-monitor-command|query-block' if drives else 'human-monitor-command'):
        return None
    try:
        return ast.literal_eval(request.strip())
    except (SyntaxError, ValueError):
        return None


def listening(path):
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(1)
    server.settimeout(START_LIMIT_S)
    return server


def main(directory, test=None):
    try:
        serve(directory, test)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def serve(directory, test):
    drives = pairs('DRIVES')
    waiting = [listening(os.path.join(directory, name)) for name in ('monitor', 'control')]
    with open(os.path.join(directory, 'ready'), 'wb'):
        pass
    daemon, control = (server.accept()[0] for server in waiting)
    connection = None
    if test is not None:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(test)
    session = Session(daemon, control, connection)
    threading.Thread(target=session.forth, args=(directory, drives), daemon=True).start()
    session.back()


main(*sys.argv[1:])
