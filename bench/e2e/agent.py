"""The host's side of the agent protocol, as much of it as the benchmarks need. See docs/reference/agent-protocol.md."""

import os
import socket
import struct
import sys
import threading
import time

HELLO, EXEC, DATA, WINDOW, STARTED, EXIT, ERROR, RESUME, RESUMED = 1, 2, 6, 7, 10, 11, 12, 14, 15
KEEP_STDIN = 4
WINDOW_BYTES = 262144
PIECE = 65536


def text(value):
    return struct.pack("<I", len(value)) + value.encode()


def words(values):
    return struct.pack("<I", len(values)) + b"".join(text(v) for v in values)


class Exec:
    """One program in the guest. Output is counted, not kept, unless `keep`."""

    def __init__(self, path, argv, stdin_bytes=None, keep=False):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(120)
        self.socket.connect(path)
        self.pending = bytearray()
        self.out_bytes, self.kept, self.keep = 0, bytearray(), keep
        self.credit, self.credit_changed = WINDOW_BYTES, threading.Condition()
        self.stdin_bytes = stdin_bytes
        flags = KEEP_STDIN if stdin_bytes is not None else 0
        request = struct.pack("<IHHQ", flags, 0, 0, 0) + words(argv) + words([]) + text("") + text("") + struct.pack("<II", 0, 0)
        self.socket.sendall(frame(HELLO, b"SAGT" + struct.pack("<HHI", 1, 0, 0)) + frame(EXEC, request))

    def wait(self):
        """Runs to the end and returns the exit status."""
        sender = None
        while True:
            kind, stream, payload = self._frame()
            if kind == STARTED and self.stdin_bytes is not None:
                sender = threading.Thread(target=self._send_stdin)
                sender.start()
            elif kind == DATA:
                self.out_bytes += len(payload)
                if self.keep:
                    self.kept += payload
                if payload:
                    self.socket.sendall(frame(WINDOW, struct.pack("<I", len(payload)), stream))
            elif kind == WINDOW:
                with self.credit_changed:
                    self.credit += struct.unpack("<I", payload)[0]
                    self.credit_changed.notify()
            elif kind == ERROR:
                sys.exit(f"agent: {payload[9:].decode(errors='replace')}")
            elif kind == EXIT:
                if sender:
                    sender.join()
                self.socket.close()
                return struct.unpack("<II", payload[:8])[1]

    def _send_stdin(self):
        piece, left = bytes(PIECE), self.stdin_bytes
        while left:
            with self.credit_changed:
                self.credit_changed.wait_for(lambda: self.credit != 0)
                n = min(left, PIECE, self.credit)
                self.credit -= n
            self.socket.sendall(frame(DATA, piece[:n]))
            left -= n
        self.socket.sendall(frame(DATA, b""))

    def _frame(self):
        header = self._take(8)
        length, kind, stream, _ = struct.unpack("<IBBH", header)
        return kind, stream, self._take(length)

    def _take(self, n):
        while len(self.pending) < n:
            chunk = self.socket.recv(1 << 18)
            if not chunk:
                sys.exit("agent: closed the connection")
            self.pending += chunk
        out = bytes(self.pending[:n])
        del self.pending[:n]
        return out


def resume(path, generation):
    """Tells a restored guest its clock and its random bits."""
    agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    agent.settimeout(120)
    agent.connect(path)
    request = struct.pack("<IIQ", 0, generation, time.time_ns()) + os.urandom(64) + text("") + b"\0" + text("") + 4 * words([])
    agent.sendall(frame(HELLO, b"SAGT" + struct.pack("<HHI", 1, 0, 0)) + frame(RESUME, request))
    data = b""
    while True:
        while len(data) < 8 or len(data) < 8 + struct.unpack_from("<I", data)[0]:
            chunk = agent.recv(65536)
            if not chunk:
                sys.exit("agent: closed the connection")
            data += chunk
        size, kind = struct.unpack_from("<IB", data)
        if kind in (RESUMED, ERROR):
            agent.close()
            return kind == RESUMED or sys.exit("agent: the resume failed")
        data = data[8 + size:]


def frame(kind, payload, stream=0):
    return struct.pack("<IBBH", len(payload), kind, stream, 0) + payload
