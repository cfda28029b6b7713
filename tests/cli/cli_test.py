"""The manners of the command line: errors, help, completion in real shells, manuals, the reference. Needs no VM."""

import filecmp
import glob
import json
import os
import pty
import re
import shutil
import subprocess
import tempfile
import unittest

BIN = os.environ["SUPERMACHINE_BIN"]
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIMIT = 60  # seconds


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.home = tempfile.mkdtemp(prefix="sm-cli-", dir="/var/tmp")
        cls.addClassCleanup(shutil.rmtree, cls.home, ignore_errors=True)
        cls.env = dict(os.environ, HOME=cls.home, XDG_DATA_HOME=f"{cls.home}/data", XDG_CACHE_HOME=f"{cls.home}/cache",
                       XDG_CONFIG_HOME=f"{cls.home}/config", PATH=os.path.dirname(BIN) + ":" + os.environ["PATH"])
        cls.env.pop("NO_COLOR", None)

    def sm(self, *words, **more):
        return subprocess.run([BIN, *words], capture_output=True, text=True, timeout=LIMIT, env=self.env, **more)

    def fails(self, *words):
        r = self.sm(*words)
        self.assertEqual((r.returncode, r.stdout), (125, ""), (words, r))
        return r.stderr

    def commands(self):
        """All commands as lists of words, from help alone."""
        def below(path):
            text = self.sm(*path, "--help").stdout
            yield path
            listed = re.search(r"\nCommands:\n((?:  .*\n)+)", text)
            for name in re.findall(r"(?m)^  (\w\S*)", listed[1]) if listed else ():
                yield from below([*path, name])
        return list(below([]))


class Errors(Case):
    def test_cause_and_remedy(self):
        for words, cause, remedy in ((["rnu"], "there is no command 'rnu'", "did you mean `supermachine run`"),
                                     (["image", "prnue"], "there is no command 'prnue'", "`supermachine image prune`"),
                                     (["run", "--memroy=1g", "x"], "unknown option --memroy", "did you mean --memory?"),
                                     (["images", "--forma"], "unknown option --forma", "did you mean --format?"),
                                     (["inspect", "nowhere"], "nowhere", ""),
                                     (["tag", "a"], "too few arguments", "supermachine tag --help"),
                                     (["version", "x"], "too many arguments", "supermachine version --help"),
                                     ([], "no command given", "--help")):
            lines = self.fails(*words).splitlines()
            self.assertEqual(len(lines), 2, lines)
            self.assertTrue(lines[0].startswith("supermachine: error: "), lines)
            self.assertIn(cause, lines[0])
            self.assertIn(remedy, lines[1])

    def test_json(self):
        for words, code in ((["images", "--format", "json", "a", "b"], "invalid-argument"), (["history", "--format=json", "nowhere"], "not-found"),
                            (["images", "--format", "json", "--nonsense"], "invalid-argument"), (["images", "--format", "json", "-a"], "unsupported"),
                            (["snapshot", "ls", "--format", "json", "x"], "invalid-argument")):
            lines = self.fails(*words).splitlines()
            self.assertEqual(len(lines), 1, lines)
            error = json.loads(lines[0])
            self.assertEqual(list(error), ["code", "cause", "remedy"])
            self.assertEqual(error["code"], code, error)
            self.assertTrue(error["cause"])
        # The value of another option, or a word of the command in the guest.
        self.assertIn("supermachine: error: ", self.fails("run", "--pull", "never", "nowhere", "--format", "json"))

    def test_dockers_options_are_refused_by_name(self):
        for option in ("--network=host", "--net", "--device=/dev/kvm", "--privileged", "-v/a:/b", "--volume", "--mount", "--gpus=all",
                       "--ipc", "--pid=host", "--userns"):
            lines = self.fails("run", option, "image").splitlines()
            self.assertEqual(len(lines), 2, lines)
            name = option[:2] if option[1] != "-" else option.split("=")[0]
            self.assertIn(f"Docker's {name} is not supported by `run`: ", lines[0])
            self.assertGreater(len(lines[1]), 10)

    def colours(self, **env):
        """What an error looks like on a terminal."""
        master, slave = pty.openpty()
        self.assertEqual(subprocess.run([BIN, "rnu"], stderr=slave, stdout=slave, timeout=LIMIT, env={**self.env, **env}).returncode, 125)
        os.close(slave)
        out = os.read(master, 10000)
        os.close(master)
        return b"\x1b[" in out

    def test_colours_are_for_terminals(self):
        self.assertTrue(self.colours())
        self.assertFalse(self.colours(NO_COLOR="1"))
        self.assertNotIn("\x1b", self.fails("rnu"))


class Help(Case):
    def test_every_command(self):
        found = self.commands()
        self.assertGreater(len(found), 25)
        for path in found:
            r = self.sm(*path, "--help")
            self.assertEqual((r.returncode, r.stderr), (0, ""), path)
            self.assertIn("\nExamples:\n", r.stdout, path)
            self.assertIn("Usage: " + " ".join(["supermachine", *path]), r.stdout)
        self.assertNotIn("__complete", self.sm("--help").stdout)

    def test_json_and_quiet_where_something_is_listed(self):
        for words in (["images"], ["image", "ls"], ["snapshot", "ls"]):
            for more in (["--format", "json"], ["-q"], ["--quiet"]):
                r = self.sm(*words, *more)
                self.assertEqual((r.returncode, r.stdout), (0, ""), r.stderr)
        self.assertEqual(json.loads(self.sm("system", "df", "--format", "json").stdout.splitlines()[0])["Type"], "Images")


BASH = """
source <("$1" completion bash); shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
$(complete -p supermachine | sed 's/.*-F \\([^ ]*\\).*/\\1/')
printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = """
autoload -U compinit; compinit -u -d "$HOME/zcompdump"
_describe() { shift 2; print -rl -- "${(@P)1}"; }
_files() { print -r -- ":files $*"; }
source <("$1" completion zsh); shift
words=("$@") CURRENT=$#
_supermachine
"""


@unittest.skipUnless(shutil.which("skopeo"), "skopeo is not installed")
class Completion(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # Two images of the store, made by hand: the store is an OCI layout.
        layout, archive = f"{cls.home}/layout", f"{cls.home}/a.tar"
        os.mkdir(layout)
        os.makedirs(f"{layout}/blobs/sha256")

        def blob(data):
            import hashlib
            digest = hashlib.sha256(data).hexdigest()
            with open(f"{layout}/blobs/sha256/{digest}", "wb") as f:
                f.write(data)
            return {"digest": f"sha256:{digest}", "size": len(data)}
        config = blob(json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}).encode())
        manifest = blob(json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": [],
                                    "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config}}).encode())
        with open(f"{layout}/oci-layout", "w") as f:
            f.write('{"imageLayoutVersion": "1.0.0"}')
        with open(f"{layout}/index.json", "w") as f:
            json.dump({"schemaVersion": 2, "manifests": [
                {"mediaType": "application/vnd.oci.image.manifest.v1+json", **manifest,
                 "annotations": {"org.opencontainers.image.ref.name": "docker.io/library/" + name}} for name in ("busybox:1.35", "debian:12")]}, f)
        subprocess.run(["tar", "cf", archive, "-C", layout, "."], check=True)
        subprocess.run([BIN, "load", "-i", archive], check=True, env=cls.env, capture_output=True)

    def test_the_store_is_as_meant(self):
        names = {f'{i["Repository"]}:{i["Tag"]}' for i in map(json.loads, self.sm("images", "--format", "json").stdout.splitlines())}
        self.assertEqual(names, {"busybox:1.35", "debian:12"})

    def complete(self, shell, *words):
        r = subprocess.run([*shell, "x", BIN, *words], capture_output=True, text=True, timeout=LIMIT, env=self.env, cwd=self.home)
        self.assertEqual(r.stderr, "", r)
        return [line for line in r.stdout.splitlines() if line]

    def test_bash(self):
        for words, expected in ((["supermachine", "ima"], ["images", "image"]), (["supermachine", "image", "pru"], ["prune"]),
                                (["supermachine", "run", "--ent"], ["--entrypoint"]), (["supermachine", "run", "-m", "1g", "deb"], ["debian:12"]),
                                # As bash splits "debian:1" and "--engine=s".
                                (["supermachine", "rmi", "debian", ":", "1"], ["12"]), (["supermachine", "run", "--engine", "=", "s"], ["soft"]),
                                (["supermachine", "rmi", "debian", ":"], ["12"]),
                                (["supermachine", "tag", ""], ["busybox:1.35", "debian:12"]), (["supermachine", "load", "-i", "a."], ["a.tar"])):
            self.assertEqual(self.complete(["bash", "--norc", "-c", BASH], *words), expected, words)

    @unittest.skipUnless(shutil.which("zsh"), "zsh is not installed")
    def test_zsh(self):
        for words, expected in ((["supermachine", "image", "pru"], "prune:"), (["supermachine", "run", "--ent"], "--entrypoint:"),
                                (["supermachine", "run", "deb"], "debian\\:12"), (["supermachine", "load", "-i", ""], ":files")):
            out = self.complete(["zsh", "-f", "-c", ZSH], *words)
            self.assertTrue(any(line.startswith(expected) for line in out), (words, out))

    @unittest.skipUnless(shutil.which("fish"), "fish is not installed")
    def test_fish(self):
        for line, expected in (("supermachine image pru", "prune"), ("supermachine run --ent", "--entrypoint"), ("supermachine run deb", "debian:12"),
                               ("supermachine run --engine s", "soft"), ("supermachine load -i a.", "a.tar")):
            script = f"{BIN} completion fish | source; complete -C '{line}'"
            r = subprocess.run(["fish", "--no-config", "-c", script], capture_output=True, text=True, timeout=LIMIT, env=self.env, cwd=self.home)
            self.assertIn(expected, [word.split("\t")[0] for word in r.stdout.splitlines()], (line, r))


class Documents(Case):
    def test_the_reference_is_what_the_program_says(self):
        written = f"{self.home}/cli.md"
        self.assertEqual(self.sm("__document", "markdown", written).returncode, 0)
        self.assertTrue(filecmp.cmp(written, f"{ROOT}/docs/reference/cli.md", shallow=False),
                        "run `supermachine __document markdown docs/reference/cli.md`")

    def test_manual_pages(self):
        folder = f"{self.home}/man"
        os.mkdir(folder)
        self.assertEqual(self.sm("__document", "man", folder).returncode, 0)
        pages = sorted(glob.glob(f"{folder}/*.1"))
        self.assertEqual(sorted("-".join(["supermachine", *path]) + ".1" for path in self.commands()), [os.path.basename(p) for p in pages])
        for page in pages:
            if shutil.which("man"):
                r = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", page], capture_output=True, text=True, timeout=LIMIT,
                                   env={**self.env, "MANWIDTH": "100"})
                self.assertEqual((r.returncode, r.stderr), (0, ""), page)
        if shutil.which("mandoc"):
            r = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", *pages], capture_output=True, text=True, timeout=LIMIT)
            self.assertEqual(r.stdout + r.stderr, "")

    def test_links_of_the_documentation(self):
        for page in [f"{ROOT}/README.md", *glob.glob(f"{ROOT}/docs/guide/*.md")]:
            with open(page) as f:
                for link in re.findall(r"\]\(([^)#]+)", f.read()):
                    if "://" not in link:
                        self.assertTrue(os.path.exists(os.path.join(os.path.dirname(page), link)), (page, link))


if __name__ == "__main__":
    unittest.main()
