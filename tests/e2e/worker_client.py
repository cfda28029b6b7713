"""A parent of supermachine-worker (docs/reference/control-protocol.md), as small as the tests need it."""

import json
import os
import socket
import struct
import subprocess


class Worker:
    def __init__(self, program, arguments, limit, errors=None):
        ours, theirs = socket.socketpair()
        ours.settimeout(limit)
        self.control, self.limit, self.buffer = ours, limit, b""
        self.process = subprocess.Popen([program, *arguments, "--control", str(theirs.fileno())], pass_fds=[theirs.fileno()],
                                        stderr=errors)
        theirs.close()
        try:
            self.send({"type": "hello", "version": 1, "program": "test"})
        except OSError:
            pass  # it has ended already and said why

    def send(self, message):
        data = json.dumps(message).encode()
        self.control.sendall(struct.pack("<I", len(data)) + data)

    def receive(self):
        """The next message, or None at the end."""
        while True:
            if len(self.buffer) >= 4:
                size, = struct.unpack_from("<I", self.buffer)
                if len(self.buffer) >= 4 + size:
                    message = json.loads(self.buffer[4:4 + size])
                    self.buffer = self.buffer[4 + size:]
                    return message
            data = self.control.recv(65536)
            if not data:
                return None
            self.buffer += data

    def wait_for(self, *kinds):
        """The next message whose type or event name is one of `kinds`; a failure always counts."""
        while True:
            message = self.receive()
            if message is None or {message["type"], message.get("name")} & {*kinds, "failure"}:
                return message

    def ask(self, **message):
        self.send(message)
        return self.wait_for("done", "refused")

    def stop(self):
        try:
            self.send({"type": "stop"})
        except OSError:
            pass
        return self.process.wait(self.limit)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop()
        self.control.close()
