"""A host of the agent protocol (docs/reference/agent-protocol.md), as small as the tests need it."""

import os
import socket
import struct
import time

HELLO, EXEC, DATA, STARTED, EXIT, ERROR, RESUME, RESUMED = 1, 2, 6, 10, 11, 12, 14, 15


def text(value):
    data = value.encode()
    return struct.pack("<I", len(data)) + data


def words(values):
    return struct.pack("<I", len(values)) + b"".join(text(v) for v in values)


class Agent:
    """One connection: hello, one request, all frames up to the agent's last one."""

    def __init__(self, path, limit):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(limit)
        self.socket.connect(path)
        self.send(HELLO, struct.pack("<IHHI", 0x54474153, 1, 0, 0))

    def send(self, kind, payload):
        self.socket.sendall(struct.pack("<IBBH", len(payload), kind, 0, 0) + payload)

    def receive_exactly(self, size):
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                self.socket.close()
                raise EOFError("the agent closed the connection")
            data += piece
        return data

    def answer(self):
        """(kind, payload, output): the last frame and all data before it."""
        output = b""
        while True:
            length, kind, _, _ = struct.unpack("<IBBH", self.receive_exactly(8))
            payload = self.receive_exactly(length)
            if kind == DATA:
                output += payload
            elif kind not in (HELLO, STARTED):
                self.socket.close()
                return kind, payload, output


def execute(path, limit, *argv, user=""):
    """What a program has written, and its exit status or None."""
    agent = Agent(path, limit)
    agent.send(EXEC, struct.pack("<IHHQ", 0, 0, 0, 0) + words(argv) + words([]) + text("") + text(user) +
               struct.pack("<II", 0, 0))  # no files, no further commands
    kind, payload, output = agent.answer()
    return output.decode(), struct.unpack_from("<II", payload)[1] if kind == EXIT else None


def resume(path, limit, generation=0, clock_ns=None, hostname="", machine_id="", env=(), secrets=(), hosts=()):
    """(results of the steps, None) or (None, the error's text)."""
    agent = Agent(path, limit)
    payload = struct.pack("<IIQ", 0, generation, clock_ns or time.time_ns()) + os.urandom(64) + text(hostname)
    payload += struct.pack("<B", 2 if machine_id else 0) + text(machine_id) + words(env) + words(secrets) + words([])
    payload += struct.pack("<I", len(hosts)) + b"".join(text(address) + text(name) for address, name in hosts)
    agent.send(RESUME, payload)
    kind, payload, _ = agent.answer()
    if kind == RESUMED:
        count = struct.unpack_from("<I", payload, 4)[0]
        return list(payload[9:8 + 2 * count:2]), None
    return None, payload[9:].decode()
