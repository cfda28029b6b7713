"""End-to-end tests of servers that people run: nginx, redis and postgres in the background, with the usual clients on the host.

Started by tests/e2e/run, which makes the images (service-images).
"""

import fcntl
import hashlib
import os
import pty
import re
import select
import struct
import subprocess
import termios
import threading
import time
import unittest

from lifecycle_test import BIN, ENGINE, LIMIT, Case

SERVICES = os.environ["SUPERMACHINE_SERVICES"]
# In the lab a processor is emulated that emulates another one.
SOFT = os.environ.get("SUPERMACHINE_ENGINE") == "soft"


class ServiceCase(Case):
    def serve(self, image, port, options=(), command=()):
        self.ok("run", "-d", *ENGINE, "--name", image, "-p", f"0:{port}", *options, f"oci:{SERVICES}:{image}", *command)
        self.port = self.port_of(image, port)

    def port_of(self, vm, port):
        return self.ok("port", vm, str(port)).strip().rsplit(":", 1)[1]

    def client(self, *words, stdin=b"", env=None):
        return subprocess.run(words, input=stdin, capture_output=True, timeout=LIMIT, env=dict(os.environ, **(env or {})))

    def answer(self, *words, **more):
        r = self.client(*words, **more)
        self.assertEqual(r.returncode, 0, (words, r.stdout, r.stderr))
        return r.stdout.decode()

    def logs(self, vm):
        r = self.call("logs", vm)
        return (r.stdout + r.stderr).decode()

    def until(self, done, what):
        try:
            super().until(done, what)
        except TimeoutError:
            for vm in self.ok("ps", "-aq").split():
                print(self.call("inspect", "--type", "vm", vm).stdout.decode(), self.logs(vm))
            raise

    def until_in_logs(self, vm, text, times=1):
        self.until(lambda: self.logs(vm).count(text) >= times, text)


class Nginx(ServiceCase):
    def setUp(self):
        super().setUp()
        self.serve("nginx", 80)
        self.url = f"http://127.0.0.1:{self.port}"
        self.until(lambda: self.client("curl", "-sf", self.url).returncode == 0, "nginx answers")

    def test_pages_errors_and_a_large_file(self):
        self.assertIn("It works", self.answer("curl", "-sf", self.url))
        self.assertEqual(self.answer("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", self.url + "/nope"), "404")
        # It is noted when it has been answered.
        self.until_in_logs("nginx", '"GET /nope HTTP/1.1" 404')
        self.until_in_logs("nginx", 'open() "/usr/share/nginx/html/nope" failed')
        r = self.call("logs", "nginx")
        self.assertIn(b'"GET /nope HTTP/1.1" 404', r.stdout)
        self.assertIn(b'open() "/usr/share/nginx/html/nope" failed', r.stderr)
        data = os.urandom(10 << 20)
        with open(self.folders.name + "/large", "wb") as f:
            f.write(data)
        self.ok("cp", self.folders.name + "/large", "nginx:/usr/share/nginx/html/large")
        got = self.client("curl", "-sf", self.url + "/large").stdout
        self.assertEqual(hashlib.sha256(got).hexdigest(), hashlib.sha256(data).hexdigest())

    def test_fifty_at_once_and_connections_that_stay(self):
        report = self.answer("ab", "-q", "-k", "-c", "50", "-n", "1000", self.url + "/")
        self.assertRegex(report, r"Complete requests: +1000\n")
        self.assertRegex(report, r"Failed requests: +0\n")
        self.assertRegex(report, r"Keep-Alive requests: +(9[0-9]{2}|1000)\n")
        report = self.answer("ab", "-q", "-c", "50", "-n", "200", self.url + "/")
        self.assertRegex(report, r"Failed requests: +0\n")

    def test_a_new_configuration_and_a_quiet_end(self):
        with open(self.folders.name + "/default.conf", "w") as f:
            f.write("server { listen 80; location / { return 200 'configured anew\\n'; } }\n")
        self.ok("cp", self.folders.name + "/default.conf", "nginx:/etc/nginx/conf.d/default.conf")
        self.ok("exec", "nginx", "nginx", "-t")
        self.ok("kill", "-s", "HUP", "nginx")
        self.until(lambda: self.client("curl", "-s", self.url).stdout == b"configured anew\n", "the new configuration")
        self.assertRegex(self.ok("top", "nginx"), r"(?s)nginx.*nginx")
        self.assertIn("nginx", self.ok("stats", "--no-stream"))
        follower = subprocess.Popen([BIN, "logs", "-f", "nginx"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.env)
        self.ok("stop", "nginx")
        # QUIT is the image's stop signal: nginx serves what it has begun, and ends with 0.
        self.assertEqual(self.ok("wait", "nginx"), "0\n")
        out, err = follower.communicate(timeout=LIMIT)
        self.assertEqual(follower.returncode, 0)
        self.assertIn(b"gracefully shutting down", err)
        self.assertIn(b'"GET / HTTP/1.1" 200', out)
        self.assertNotEqual(self.client("curl", "-s", self.url).returncode, 0)


class ServerRestarts(ServiceCase):
    def test_a_killed_server_comes_back(self):
        self.serve("nginx", 80, ["--restart", "on-failure"])
        self.url = f"http://127.0.0.1:{self.port}"
        self.until(lambda: self.client("curl", "-sf", self.url).returncode == 0, "nginx answers")
        # The VM may end before the shell has told how it ended.
        self.call("exec", "nginx", "sh", "-c", "kill -9 $(cat /run/nginx.pid)")
        self.until(lambda: self.inspect("nginx")["RestartCount"] == 1, "started again")
        self.until(lambda: self.client("curl", "-sf", self.url).returncode == 0, "nginx answers again")


class Redis(ServiceCase):
    def setUp(self):
        super().setUp()
        self.serve("redis", 6379)
        self.until_answers()

    def until_answers(self):
        self.until(lambda: self.client("redis-cli", "-p", self.port, "ping").stdout == b"PONG\n", "redis answers")

    def redis(self, *words, **more):
        return self.answer("redis-cli", "-p", self.port, *words, **more)

    def typed(self, *steps):
        """To redis-cli on a terminal: when it has said the first, the second. What is typed before its prompt is thrown away."""
        master, slave = pty.openpty()
        # Without a size redis-cli asks the terminal where the cursor is, and waits for the answer.
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        client = subprocess.Popen([BIN, "exec", "-it", "redis", "redis-cli"], stdin=slave, stdout=slave, stderr=slave, env=self.env)
        os.close(slave)
        seen, deadline = b"", time.monotonic() + LIMIT
        for said, line in steps:
            while said not in seen:
                if not select.select([master], [], [], max(0, deadline - time.monotonic()))[0]:
                    raise TimeoutError(seen)
                seen += os.read(master, 4096)
            seen = seen[seen.index(said) + len(said):]
            os.write(master, line)
        drain = threading.Thread(target=lambda: self.drain(master))
        drain.start()
        self.assertEqual(client.wait(LIMIT), 0)
        drain.join(LIMIT)
        os.close(master)

    @staticmethod
    def drain(terminal):
        try:
            while os.read(terminal, 4096):
                pass
        except OSError:
            pass  # the other end is closed

    def test_commands_one_by_one_and_many_at_once(self):
        self.assertEqual(self.redis("set", "name", "a value"), "OK\n")
        self.assertEqual(self.redis("get", "name"), "a value\n")
        commands = "".join(f"SET key{n} value{n}\n" for n in range(10000)).encode()
        self.assertIn("errors: 0, replies: 10000", self.redis("--pipe", stdin=commands))
        self.assertEqual(self.redis("get", "key9999"), "value9999\n")
        self.assertEqual(self.redis("dbsize"), "10001\n")
        report = self.answer("redis-benchmark", "-p", self.port, "-q", "-n", "2000" if SOFT else "200", "-c", "20", "-t", "ping,set,get,lrange_100")
        self.assertEqual(len(re.findall(r"requests per second, p50=", report)), 6)

    def test_a_client_inside_the_end_and_a_start(self):
        self.typed((b"6379> ", b"incr counter\r"), (b"(integer) 1\r\n", b""), (b"6379> ", b"incr counter\r"), (b"(integer) 2\r\n", b""),
                   (b"6379> ", b"quit\r"))
        self.assertEqual(self.redis("get", "counter"), "2\n")
        self.assertIn("redis-server", self.ok("top", "redis"))
        self.ok("stop", "redis")
        self.assertEqual(self.ok("wait", "redis"), "0\n")
        self.assertIn("DB saved on disk", self.logs("redis"))
        for again in ("start", "restart"):
            self.ok(again, "redis")
            # Any free port is another one at each start.
            self.port = self.port_of("redis", 6379)
            self.until_answers()
            self.assertEqual(self.redis("get", "counter"), "2\n")
        self.until_in_logs("redis", "Ready to accept connections", 3)
        self.assertEqual(self.logs("redis").count("Ready to accept connections"), 3)


class Postgres(ServiceCase):
    def setUp(self):
        super().setUp()
        # The check that comes with the image asks every two seconds.
        self.serve("postgres", 5432, ["-m", "512m", "-e", "POSTGRES_PASSWORD=secret"])
        self.env_of_client = {"PGPASSWORD": "secret", "PGCONNECT_TIMEOUT": "60"}
        self.where = ["-h", "127.0.0.1", "-p", self.port, "-U", "postgres"]
        self.until(lambda: self.client("pg_isready", "-q", *self.where).returncode == 0, "postgres answers")

    def sql(self, text):
        return self.answer("psql", *self.where, "-XqAt", "-v", "ON_ERROR_STOP=1", stdin=text.encode(), env=self.env_of_client)

    def test_a_database_from_its_first_start_to_its_end(self):
        self.sql("CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL);"
                 "INSERT INTO item SELECT n, 'item ' || n FROM generate_series(1, 1000) n;")
        self.assertEqual(self.sql("SELECT count(*), sum(id), max(name) FROM item;"), "1000|500500|item 999\n")
        self.sql("BEGIN; DELETE FROM item; ROLLBACK; BEGIN; UPDATE item SET name = 'changed' WHERE id <= 10; COMMIT;")
        self.assertEqual(self.sql("SELECT count(*), count(*) FILTER (WHERE name = 'changed') FROM item;"), "1000|10\n")
        wrong = self.client("psql", *self.where, "-Xc", "SELECT 1", env={"PGPASSWORD": "wrong"})
        self.assertEqual(wrong.returncode, 2)
        self.assertIn(b"password authentication failed", wrong.stderr)
        bench = ["pgbench", *self.where]
        self.answer(*bench, "-q", "-i", "-s", "1", "postgres", env=self.env_of_client)
        report = self.answer(*bench, "-c", "4", *(("-T", "3") if SOFT else ("-t", "5")), "postgres", env=self.env_of_client)
        self.assertIn("number of failed transactions: 0", report)
        self.until(lambda: self.inspect("postgres")["State"]["Health"]["Status"] == "healthy", "healthy")
        self.ok("stop", "postgres")
        self.assertEqual(self.ok("wait", "postgres"), "0\n")
        self.assertIn("received fast shutdown request", self.logs("postgres"))
        self.assertIn("database system is shut down", self.logs("postgres").splitlines()[-1])
        # Rows are still there, after an orderly end and after none.
        for again in (["start"], ["restart"], ["kill", "start"]):
            for verb in again:
                self.ok(verb, "postgres")
            self.where[3] = self.port_of("postgres", 5432)
            self.until(lambda: self.client("pg_isready", "-q", *self.where).returncode == 0, "postgres answers again")
            self.assertEqual(self.sql("SELECT count(*), count(*) FILTER (WHERE name = 'changed') FROM item;"), "1000|10\n")
            self.sql("UPDATE item SET name = name;")


if __name__ == "__main__":
    unittest.main(verbosity=2)
