"""The registry client and the image store against Debian's docker-registry, with skopeo and podman as second clients."""

import hashlib
import json
import os
import pty
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import unittest

from registries import LIMIT, HoldingProxy, Registry, noise, write_layout

BIN = os.environ["SUPERMACHINE_BIN"]
BUSYBOX = "/bin/busybox"


def tool(*words, **more):
    result = subprocess.run(words, capture_output=True, timeout=LIMIT, **more)
    if result.returncode != 0:
        raise RuntimeError(f"{words}: {result.stderr.decode()}")
    return result.stdout.decode()


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.shared = tempfile.mkdtemp(prefix="sm-registry-", dir="/var/tmp")
        cls.addClassCleanup(shutil.rmtree, cls.shared, ignore_errors=True)
        with open(BUSYBOX, "rb") as f:
            busybox = f.read()
        cls.layout = f"{cls.shared}/layout"
        cls.id = write_layout(cls.layout, [{"bin/busybox": (0o755, busybox), "etc/passwd": (0o644, b"root:x:0:0::/:/bin/sh\n")},
                                           {"data": (0o644, noise(3_000_000, 1))}, {"more": (0o644, noise(2_000_000, 2))}])
        cls.registry = Registry(f"{cls.shared}/plain")
        cls.addClassCleanup(cls.registry.close)
        cls.skopeo_push(cls.registry.host, cls.layout)

    @classmethod
    def skopeo_push(cls, host, layout, *options, name="team/app:v1"):
        tool("skopeo", "copy", "--quiet", "--dest-tls-verify=false", *options, f"oci:{layout}:v1", f"docker://{host}/{name}")

    def setUp(self):
        self.home = tempfile.mkdtemp(prefix="home-", dir=self.shared)
        self.env = dict(os.environ, HOME=self.home, XDG_DATA_HOME=f"{self.home}/data", XDG_CACHE_HOME=f"{self.home}/cache",
                        XDG_CONFIG_HOME=f"{self.home}/config", XDG_RUNTIME_DIR=f"{self.home}/run", NO_PROXY="*")
        for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "SSL_CERT_FILE", "no_proxy"):
            self.env.pop(name, None)
        os.mkdir(f"{self.home}/run", 0o700)
        self.store = f"{self.home}/data/supermachine/images"
        self.name = f"{self.registry.host}/team/app:v1"

    def sm(self, *words, **more):
        return subprocess.run([BIN, *words], capture_output=True, timeout=LIMIT, env=self.env, **more)

    def ok(self, *words, **more):
        r = self.sm(*words, **more)
        self.assertEqual(r.returncode, 0, (words, r.stderr.decode()))
        return r.stdout.decode()

    def fails(self, *words, text):
        """Our own failure: status 125, one line of cause that contains `text`."""
        r = self.sm(*words)
        self.assertEqual(r.returncode, 125, (words, r))
        lines = r.stderr.decode().splitlines()
        self.assertTrue(lines[-1 if len(lines) == 1 else -2].startswith("supermachine: error: "), lines)
        self.assertIn(text, r.stderr.decode())

    def images(self):
        return [json.loads(line) for line in self.ok("images", "--format", "json").splitlines()]

    def assert_whole_blobs(self):
        folder = f"{self.store}/blobs/sha256"
        for name in os.listdir(folder):
            with open(f"{folder}/{name}", "rb") as f:
                self.assertEqual(hashlib.sha256(f.read()).hexdigest(), name)

    def configure(self, **registries):
        os.makedirs(f"{self.home}/config/supermachine", exist_ok=True)
        with open(f"{self.home}/config/supermachine/registries.json", "w") as f:
            json.dump({"registries": registries}, f)


class Pull(Case):
    def test_pull_list_inspect_history(self):
        out = self.ok("pull", self.name)
        self.assertIn("Downloaded newer image", out)
        self.assertTrue(out.endswith(self.name + "\n"))
        self.assertIn("up to date", self.ok("pull", self.name))
        self.assertEqual(self.ok("pull", "-q", self.name), self.name + "\n")
        (row,) = self.images()
        self.assertEqual((row["Repository"], row["Tag"], row["ID"], row["Platform"]), (f"{self.registry.host}/team/app", "v1", self.id, "linux/amd64"))
        remote = json.loads(tool("skopeo", "inspect", "--tls-verify=false", f"docker://{self.name}"))
        self.assertEqual(row["Digest"], remote["Digest"])
        self.assertEqual(self.ok("images", "-q").strip(), self.id[7:19])
        self.assertIn("REPOSITORY", self.ok("images"))
        (info,) = json.loads(self.ok("inspect", self.name))
        self.assertEqual((info["Id"], info["RepoTags"], info["Config"]["Cmd"][-1]), (self.id, [self.name], "hello"))
        self.assertEqual(len(info["RootFS"]["Layers"]), 3)
        steps = [json.loads(line)["CreatedBy"] for line in self.ok("history", "--format", "json", self.name).splitlines()]
        self.assertEqual(steps, ["step 2", "step 1", "step 0"])

    def test_the_store_is_a_layout_that_skopeo_reads(self):
        self.ok("pull", self.name)
        info = json.loads(tool("skopeo", "inspect", "--config", f"oci:{self.store}:{self.name}"))
        self.assertEqual(info["architecture"], "amd64")

    def test_by_digest(self):
        digest = json.loads(tool("skopeo", "inspect", "--tls-verify=false", f"docker://{self.name}"))["Digest"]
        name = f"{self.registry.host}/team/app@{digest}"
        self.ok("pull", name)
        self.assertEqual(self.images()[0]["Digest"], digest)
        self.ok("inspect", name)

    def test_failures(self):
        self.fails("pull", f"{self.registry.host}/team/none:v1", text="team/none:v1")
        self.fails("pull", f"{self.registry.host}/team/app:none", text="does not have it")
        self.fails("pull", "localhost:1/x", text="localhost:1/x:latest")
        self.fails("pull", "UPPER", text="lower case")
        self.fails("pull", "--all-tags", self.name, text="--all-tags")
        self.fails("pull", "--no-such-flag", self.name, text="--no-such-flag")
        self.fails("pull", "--platform", "linux/s390x", self.name, text="linux/amd64")
        self.fails("pull", text="the image's name is missing")
        self.fails("images", "--format", "{{.ID}}", text="--format json")
        self.assertEqual(self.images(), [])

    def test_platforms(self):
        layout = f"{self.home}/multi"
        write_layout(layout, [{"a": (0o644, b"x")}], architectures=("arm64", "amd64"))
        self.skopeo_push(self.registry.host, layout, "--all", name="team/multi:v1")
        name = f"{self.registry.host}/team/multi:v1"
        self.ok("pull", "--platform", "linux/arm64", name)
        self.assertEqual(self.images()[0]["Platform"], "linux/arm64")
        self.fails("run", "--pull", "never", name, text="not for linux/amd64")
        self.ok("pull", name)
        self.assertEqual(self.images()[0]["Platform"], "linux/amd64")

    def test_progress_is_for_terminals(self):
        self.assertEqual(self.sm("pull", self.name).stderr, b"")
        self.ok("rmi", self.name)
        ours, its = pty.openpty()
        p = subprocess.Popen([BIN, "pull", self.name], env=self.env, stdout=subprocess.PIPE, stderr=its)
        os.close(its)
        seen = b""
        try:
            while data := os.read(ours, 65536):
                seen += data
        except OSError:
            pass  # the other end was closed
        os.close(ours)
        self.assertIn(b"Digest: sha256:", p.stdout.read())
        p.stdout.close()
        self.assertEqual(p.wait(LIMIT), 0)
        self.assertRegex(seen, rb"pulling  [0-9.]+[kM]?B/[0-9.]+MB, [0-9]/3 layers")

    def test_several_processes_at_once(self):
        proxy = HoldingProxy(self.registry, 1 << 40)
        self.addCleanup(proxy.close)
        name = f"{proxy.host}/team/app:v1"
        self.configure(**{proxy.host: {"plain_http": True}})
        processes = [subprocess.Popen([BIN, "pull", "-q", name], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(10)]
        for p in processes:
            out, err = p.communicate(timeout=LIMIT)
            self.assertEqual((p.returncode, out.decode()), (0, name + "\n"), err.decode())
        blobs = [path for path in proxy.gets if "/blobs/" in path]
        self.assertEqual(len(blobs), len(set(blobs)), "each blob comes once")
        self.assertEqual(len(self.images()), 1)

    def test_killed_in_the_middle_and_gone_on_with(self):
        proxy = HoldingProxy(self.registry, 1_000_000)
        self.addCleanup(proxy.close)
        name = f"{proxy.host}/team/app:v1"
        self.configure(**{proxy.host: {"plain_http": True}})
        p = subprocess.Popen([BIN, "pull", name], env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.assertTrue(proxy.held.wait(LIMIT))
        # The proxy has sent a part; the client has at least begun to read it once its file grows.
        self.wait_until(lambda: self.largest_part() > 100_000)
        p.send_signal(signal.SIGKILL)
        p.wait(LIMIT)
        self.assertEqual(self.images(), [])
        self.assert_whole_blobs()
        self.fails("run", "--pull", "never", name, text="no image")
        proxy.release.set()
        self.ok("pull", name)
        self.assertTrue(proxy.ranges, "the download goes on where it was")
        self.assert_whole_blobs()
        self.ok("inspect", name)

    def largest_part(self):
        ingest = f"{self.store}/ingest"
        try:
            return max((os.stat(f"{ingest}/{name}").st_size for name in os.listdir(ingest)), default=0)
        except FileNotFoundError:
            return 0  # one is complete and was moved meanwhile

    def wait_until(self, condition):
        deadline = time.monotonic() + LIMIT
        while not condition():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def test_through_a_proxy(self):
        proxy = HoldingProxy(self.registry, 1 << 40)
        self.addCleanup(proxy.close)
        self.configure(**{"behind.invalid:5000": {"plain_http": True}})
        self.env.pop("http_proxy", None)
        self.env.update(HTTP_PROXY=f"http://{proxy.host}", NO_PROXY="behind.invalid")
        self.fails("pull", "behind.invalid:5000/team/app:v1", text="behind.invalid")
        self.assertEqual(proxy.gets, [])
        self.env["NO_PROXY"] = "other.invalid"
        self.ok("pull", "behind.invalid:5000/team/app:v1")
        self.assertTrue(all(path.startswith("http://behind.invalid:5000/v2/team/app/") for path in proxy.gets), proxy.gets)

    def test_full_disk(self):
        layout = f"{self.home}/big"
        write_layout(layout, [{"big": (0o644, noise(40_000_000, 3))}])
        self.skopeo_push(self.registry.host, layout, name="team/big:v1")
        mount = f"{self.home}/small"
        os.mkdir(mount)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=90m", "tmpfs", mount], capture_output=True).returncode != 0:
            self.skipTest("no right to mount a small disk")
        self.addCleanup(subprocess.run, ["umount", mount])
        self.env["XDG_DATA_HOME"] = mount
        self.store = f"{mount}/supermachine/images"
        self.fails("pull", f"{self.registry.host}/team/big:v1", text="no space left")
        self.assertEqual(self.images(), [])
        self.assert_whole_blobs()
        self.ok("image", "prune", "-f")
        self.assertEqual(os.listdir(f"{self.store}/ingest"), [])

    def test_run_by_name(self):
        options = ["--engine", os.environ.get("SUPERMACHINE_ENGINE", "auto"), "-m", "64m"]
        self.assertEqual(self.ok("run", *options, self.name), "hello\n")
        self.assertEqual(len(self.images()), 1)
        self.assertEqual(self.ok("run", *options, "--pull", "never", self.id[7:19], "/bin/busybox", "echo", "by id"), "by id\n")
        self.fails("run", "--pull", "never", f"{self.registry.host}/team/other", text="team/other")
        self.fails("run", "--pull", "sometimes", self.name, text="sometimes")
        self.fails("run", "--platform", "linux/arm64", self.name, text="linux/amd64 only")


class Login(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        passwords = f"{cls.shared}/htpasswd"
        with open(passwords, "w") as f:
            f.write(tool("htpasswd", "-Bbn", "user", "pass:word"))
        cls.locked = Registry(f"{cls.shared}/locked", password_file=passwords)
        cls.addClassCleanup(cls.locked.close)
        cls.skopeo_push(cls.locked.host, cls.layout, "--dest-creds", "user:pass:word")

    def setUp(self):
        super().setUp()
        self.name = f"{self.locked.host}/team/app:v1"

    def write(self, path, text, mode=0o600):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, mode)

    def test_without_and_with_a_wrong_password(self):
        self.fails("pull", self.name, text="denies access (401)")
        self.write(f"{self.home}/.docker/config.json", json.dumps({"auths": {self.locked.host: {"username": "user", "password": "wrong"}}}))
        self.fails("pull", self.name, text="denies access (401)")

    def test_skopeos_login_pulls_and_pushes(self):
        tool("skopeo", "login", "--tls-verify=false", "--authfile", f"{self.home}/run/containers/auth.json", "-u", "user", "-p", "pass:word", self.locked.host)
        self.ok("pull", self.name)
        self.ok("tag", self.name, f"{self.locked.host}/team/copy:v2")
        self.ok("push", f"{self.locked.host}/team/copy:v2")

    def test_dockers_helper(self):
        self.write(f"{self.home}/bin/docker-credential-fake", '#!/bin/sh\nread s\necho "$1 $s" > "$HOME/asked"\necho \'{"Username":"user","Secret":"pass:word"}\'\n', 0o700)
        self.env["PATH"] = f"{self.home}/bin:" + self.env["PATH"]
        self.write(f"{self.home}/.docker/config.json", json.dumps({"credHelpers": {self.locked.host: "fake"}}))
        self.ok("pull", self.name)
        with open(f"{self.home}/asked") as f:
            self.assertEqual(f.read(), f"get {self.locked.host}\n")

    def test_passwords_are_not_told(self):
        self.write(f"{self.home}/.docker/config.json", json.dumps({"auths": {self.locked.host: {"username": "user", "password": "topsecret"}}}))
        r = self.sm("pull", self.name)
        self.assertNotIn(b"topsecret", r.stderr + r.stdout)


class Tls(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        d = cls.shared
        tool("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test ca", "-keyout", f"{d}/ca.key", "-out", f"{d}/ca.pem")
        tool("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", f"{d}/tls.key", "-out", f"{d}/tls.csr")
        with open(f"{d}/ext", "w") as f:
            f.write("subjectAltName=DNS:localhost\n")
        tool("openssl", "x509", "-req", "-in", f"{d}/tls.csr", "-CA", f"{d}/ca.pem", "-CAkey", f"{d}/ca.key", "-CAcreateserial", "-days", "2", "-extfile", f"{d}/ext", "-out", f"{d}/tls.pem")
        cls.secure = Registry(f"{d}/secure", certificate=f"{d}/tls.pem", key=f"{d}/tls.key")
        cls.addClassCleanup(cls.secure.close)
        cls.skopeo_push(cls.secure.host, cls.layout)

    def test_an_unknown_authority_is_refused(self):
        self.fails("pull", f"{self.secure.host}/team/app:v1", text="certificate is not trusted")

    def test_an_own_authority(self):
        self.configure(**{self.secure.host: {"ca_file": f"{self.shared}/ca.pem"}})
        self.ok("pull", f"{self.secure.host}/team/app:v1")
        # The certificate is for localhost.
        host = f"127.0.0.1:{self.secure.port}"
        self.configure(**{host: {"ca_file": f"{self.shared}/ca.pem"}})
        self.fails("pull", f"{host}/team/app:v1", text="certificate is not trusted")

    def test_unverified_when_told(self):
        self.configure(**{self.secure.host: {"skip_tls_verify": True}})
        self.ok("pull", f"{self.secure.host}/team/app:v1")

    def test_a_mirror(self):
        self.configure(**{"unreachable.invalid": {"mirrors": [f"https://{self.secure.host}"]}, self.secure.host: {"ca_file": f"{self.shared}/ca.pem"}})
        self.ok("pull", "unreachable.invalid/team/app:v1")
        self.assertEqual(self.images()[0]["Repository"], "unreachable.invalid/team/app")

    def test_mistakes_in_the_configuration_are_named(self):
        self.configure(**{self.secure.host: {"insecure": True}})
        self.fails("pull", f"{self.secure.host}/team/app:v1", text='unknown field "insecure"')


class Store(Case):
    def setUp(self):
        super().setUp()
        self.ok("pull", self.name)

    def podman(self, *words):
        if not hasattr(self, "podman_folder"):
            self.podman_folder = tempfile.mkdtemp(prefix="sm-podman-", dir="/var/tmp")  # podman wants short paths
            self.addCleanup(shutil.rmtree, self.podman_folder, ignore_errors=True)
        return tool("podman", "--root", f"{self.podman_folder}/root", "--runroot", f"{self.podman_folder}/run", "--storage-driver", "vfs", *words)

    def test_tag_and_rmi(self):
        self.ok("tag", self.name, "app")
        self.ok("tag", "app", "app:v2")
        self.assertEqual([(r["Repository"], r["Tag"]) for r in self.images()][1:], [("app", "latest"), ("app", "v2")])
        self.fails("rmi", self.id[7:19], text="several names")
        self.assertIn("Untagged: docker.io/library/app:v2", self.ok("rmi", "app:v2"))
        self.fails("rmi", "app:v2", text="app:v2")
        self.ok("rmi", "-f", "app:v2")
        self.assertIn("Deleted: sha256:", self.ok("rmi", "-f", self.id[7:19]))
        self.assertEqual(self.images(), [])
        self.assertEqual(os.listdir(f"{self.store}/blobs/sha256"), [])

    def test_push_to_skopeo(self):
        name = f"{self.registry.host}/other/copy:v2"
        self.ok("tag", self.name, name)
        self.assertIn("digest: sha256:", self.ok("push", name))
        source, copy = (json.loads(tool("skopeo", "inspect", "--tls-verify=false", f"docker://{n}")) for n in (self.name, name))
        self.assertEqual((copy["Digest"], copy["Layers"]), (source["Digest"], source["Layers"]))
        tool("skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{name}", f"dir:{self.home}/copied")
        with open(self.registry.log) as f:
            self.assertIn("mount=", f.read(), "layers are taken over within a registry")

    def test_push_in_chunks(self):
        other = Registry(f"{self.home}/other")
        self.addCleanup(other.close)
        self.configure()
        with open(f"{self.home}/config/supermachine/registries.json", "w") as f:
            json.dump({"push_chunk_bytes": 1 << 20}, f)
        name = f"{other.host}/chunked:v1"
        self.ok("tag", self.name, name)
        self.ok("push", name)
        tool("skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{name}", f"dir:{self.home}/copied")

    def test_saved_archives_are_read_by_skopeo_and_podman(self):
        for form in ("docker-archive", "oci-archive"):
            path = f"{self.home}/{form}.tar"
            self.ok("save", "--format", form, "-o", path, self.name)
            reference = f"{form}:{path}" + (f":{self.name}" if form == "oci-archive" else "")
            config = json.loads(tool("skopeo", "inspect", "--config", reference))
            self.assertEqual(config["config"]["Cmd"][-1], "hello")
            self.assertIn("app", self.podman("load", "-q", "-i", path))
            self.assertEqual(self.podman("image", "inspect", "--format", "{{.Id}}", self.name).strip(), self.id[7:])

    def test_archives_of_others_are_loaded(self):
        self.ok("rmi", self.name)
        for form, written in (("docker-archive", "team/x:1"), ("oci-archive", "team/x:1")):
            path = f"{self.home}/other-{form}.tar"
            tool("skopeo", "copy", "--quiet", f"oci:{self.layout}:v1", f"{form}:{path}:{written}")
            self.assertEqual(self.ok("load", "-i", path), "Loaded image: docker.io/team/x:1\n")
            (row,) = self.images()
            self.assertEqual((row["Repository"], row["ID"]), ("team/x", self.id) if form == "oci-archive" else ("team/x", row["ID"]))
            self.ok("rmi", "team/x:1")
        with open(path, "rb") as f:
            self.assertEqual(self.ok("load", "-q", stdin=f), "docker.io/team/x:1\n")
        with open(path, "rb") as f:
            self.ok("load", input=f.read())
        self.fails("load", "-i", f"{self.home}/none.tar", text="none.tar")

    def test_save_to_a_pipe_is_the_same(self):
        path = f"{self.home}/a.tar"
        self.ok("save", "-o", path, self.name)
        r = self.sm("save", self.name)
        with open(path, "rb") as f:
            self.assertEqual(hashlib.sha256(r.stdout).digest(), hashlib.sha256(f.read()).digest())

    def test_prune_and_df(self):
        self.ok("tag", self.name, "keep")
        self.ok("rmi", self.name)
        rows = {json.loads(line)["Type"]: json.loads(line) for line in self.ok("system", "df", "--format", "json").splitlines()}
        self.assertEqual((rows["Images"]["TotalCount"], rows["Images"]["Reclaimable"]), (1, 0))
        self.assertGreater(rows["Images"]["Size"], 5_000_000)
        self.assertIn("RECLAIMABLE", self.ok("system", "df"))
        self.fails("image", "prune", text="-f")
        self.assertEqual(json.loads(self.ok("image", "prune", "-f", "--format", "json"))["Blobs"], [])
        self.ok("inspect", "keep")
        self.assertGreater(json.loads(self.ok("image", "prune", "-a", "-f", "--format", "json"))["SpaceReclaimed"], 5_000_000)
        self.assertEqual(self.images(), [])

    def test_files_are_private(self):
        self.assertEqual(stat.S_IMODE(os.stat(self.store).st_mode), 0o700)


if __name__ == "__main__":
    unittest.main(verbosity=2)
