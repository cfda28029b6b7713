"""commands.py done with podman and with supermachine, against one registry, and compared. Started by tests/e2e/run."""

import json
import os
import pty
import select
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [f"{HERE}/..", f"{HERE}/../../integration"]

from registries import Registry  # noqa: E402
import commands  # noqa: E402

BIN = os.environ["SUPERMACHINE_BIN"]
IMAGES = os.environ["SUPERMACHINE_IMAGES"]
ENGINE = os.environ.get("SUPERMACHINE_ENGINE", "auto")
LIMIT = 100  # seconds; a guest may run on an emulated processor
STDIN = b"standard input\n"

# As ask-podman has it: what also works inside a container without systemd.
CONTAINERS_CONF = """[engine]
cgroup_manager="cgroupfs"
events_logger="file"
runtime="runc"
[containers]
netns="none"
default_ulimits=["nofile=20000:20000","nproc=32768:32768"]
"""


class Program:
    """One of the two, with a store of its own."""

    def __init__(self, name, words, run_words, env, cwd):
        self.name, self.words, self.run_words, self.env, self.cwd = name, words, run_words, env, cwd

    def line(self, words):
        return [*self.words, words[0], *(self.run_words if words[0] == "run" else []), *words[1:]]

    def do(self, words):
        r = subprocess.run(self.line(words), input=STDIN, capture_output=True, timeout=LIMIT, env=self.env, cwd=self.cwd)
        return r.returncode, r.stdout.decode(), r.stderr.decode()

    def on_terminal(self, words):
        """(status, output) on a terminal of 33x99."""
        line = self.line(words)
        pid, fd = pty.fork()
        if pid == 0:
            os.chdir(self.cwd)
            os.execvpe("sh", ["sh", "-c", 'stty rows 33 cols 99; exec "$@"', "sh", *line], self.env)
        out, deadline = b"", time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            if fd not in select.select([fd], [], [], 1)[0]:
                continue
            try:
                piece = os.read(fd, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            out += piece
        _, status = os.waitpid(pid, 0)
        os.close(fd)
        return os.waitstatus_to_exitcode(status), out.decode()


def ids(outcome):
    status, out, _ = outcome
    return status, sorted({word.removeprefix("sha256:") for word in out.split()})


def inspected(outcome):
    image, = json.loads(outcome[1])
    config = image["Config"]
    return {"id": image["Id"].removeprefix("sha256:"), "os": image["Os"], "architecture": image["Architecture"], "env": config.get("Env"),
            "cmd": config.get("Cmd"), "entrypoint": config.get("Entrypoint"), "folder": config.get("WorkingDir") or "",
            "user": config.get("User") or "", "labels": config.get("Labels") or {}, "layers": image["RootFS"]["Layers"]}


def history(outcome):
    """The steps, newest first. podman prints one list, Docker and supermachine an object per line."""
    text = outcome[1].strip()
    rows = json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]
    rows = [{key.lower(): value for key, value in row.items()} for row in rows]
    return [(row.get("createdby") or "", row.get("comment") or "") for row in rows]


VIEWS = {"same": lambda o: o, "status": lambda o: o[0], "success": lambda o: o[0] == 0, "ids": ids, "inspect": inspected, "history": history}


class DockerParity(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        for tool in ("podman", "docker-registry", "skopeo"):
            if not shutil.which(tool):
                raise unittest.SkipTest(f"there is no {tool} here to compare with")
        cls.folder = tempfile.mkdtemp(prefix="sm-parity-", dir="/var/tmp")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.registry = Registry(f"{cls.folder}/registry")
        cls.addClassCleanup(cls.registry.close)
        cls.image = f"{cls.registry.host}/team/busybox:1"
        subprocess.run(["skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{IMAGES}:busybox", f"docker://{cls.image}"], check=True)
        cls.podman, cls.ours = cls.make_podman(), cls.make_ours()
        cls.addClassCleanup(cls.remove_podman)
        status, _, errors = cls.podman.do(["run", "--rm", cls.image, "true"])
        if status != 0:
            raise unittest.SkipTest("podman cannot run containers here: " + errors.strip().splitlines()[-1])
        cls.podman.do(["rmi", "-a", "-f"])

    @classmethod
    def make_podman(cls):
        folder = f"{cls.folder}/podman"
        os.mkdir(folder)
        for name, text in (("containers.conf", CONTAINERS_CONF),
                           ("registries.conf", f'[[registry]]\nlocation="{cls.registry.host}"\ninsecure=true\n')):
            with open(f"{folder}/{name}", "w") as f:
                f.write(text)
        env = dict(os.environ, CONTAINERS_CONF=f"{folder}/containers.conf", CONTAINERS_REGISTRIES_CONF=f"{folder}/registries.conf", NO_PROXY="*")
        return Program("podman", ["podman", "--root", f"{folder}/root", "--runroot", f"{folder}/run", "--storage-driver", "overlay"], [], env, folder)

    @classmethod
    def remove_podman(cls):
        for words in (["rm", "-a", "-f"], ["rmi", "-a", "-f"]):
            cls.podman.do(words)
        subprocess.run(["umount", f"{cls.podman.cwd}/root/overlay"], capture_output=True)  # what its storage driver leaves behind

    @classmethod
    def make_ours(cls):
        folder = f"{cls.folder}/supermachine"
        os.makedirs(f"{folder}/run", 0o700)
        env = dict(os.environ, HOME=folder, XDG_DATA_HOME=f"{folder}/data", XDG_CACHE_HOME=f"{folder}/cache", XDG_CONFIG_HOME=f"{folder}/config",
                   XDG_RUNTIME_DIR=f"{folder}/run", NO_PROXY="*")
        return Program("supermachine", [BIN], ["--engine", ENGINE], env, folder)

    def fill(self, words, program, other):
        values = {"image": self.image, "copy": f"{self.registry.host}/{program.name}/copy:2", "other": f"{self.registry.host}/{other.name}/copy:2",
                  "file": f"{program.cwd}/saved.tar", "other_file": f"{other.cwd}/saved.tar", "nowhere": f"{self.registry.host}/no/such:image"}
        return [values[word[1:-1]] if word.startswith("{") and word.endswith("}") else word for word in words]

    def test_everyday_commands(self):
        for what, words, compare in commands.COMMANDS:
            with self.subTest(what, words=words):
                theirs, ours = (self.outcome(self.fill(words, program, other), program, compare)
                                for program, other in ((self.podman, self.ours), (self.ours, self.podman)))
                self.assertEqual(ours[0], theirs[0], (ours[1], theirs[1]))

    @staticmethod
    def outcome(words, program, compare):
        """What is compared, and all there is to see."""
        if compare == "terminal":
            outcome = program.on_terminal(words)
            return outcome, outcome
        outcome = program.do(words)
        try:
            return VIEWS[compare](outcome), outcome
        except (ValueError, KeyError) as e:
            return repr(e), outcome


if __name__ == "__main__":
    unittest.main(verbosity=2)
