"""End-to-end tests of `cp` between this host and VMs. Started by tests/e2e/run."""

import io
import os
import shutil
import subprocess
import tarfile
import unittest

from lifecycle_test import BIN, ENGINE, LIMIT, Case


class Copies(Case):
    def test_both_ways(self):
        self.run_d("sleep", "1000", options=["--name", "vm"])
        here = self.folders.name + "/here"
        os.makedirs(here + "/tree/sub")
        for path, data in (("tree/a", b"A\n"), ("tree/sub/b", os.urandom(300000))):
            with open(f"{here}/{path}", "wb") as f:
                f.write(data)
        os.symlink("sub/b", here + "/tree/link")
        self.ok("cp", here + "/tree", "vm:/tmp")
        self.ok("cp", here + "/tree", "vm:/tmp/other")
        self.ok("cp", here + "/tree/a", "vm:/tmp/file")
        self.assertEqual(self.ok("exec", "vm", "cat", "/tmp/tree/a", "/tmp/other/a", "/tmp/file"), "A\n" * 3)
        self.assertEqual(self.ok("exec", "vm", "readlink", "/tmp/tree/link"), "sub/b\n")
        self.ok("cp", "vm:/tmp/tree", here + "/back")
        self.assertEqual(subprocess.run(["diff", "-r", here + "/tree", here + "/back"]).returncode, 0)
        self.ok("cp", "vm:/tmp/file", here)
        with open(here + "/file", "rb") as f:
            self.assertEqual(f.read(), b"A\n")
        self.refused("ended in the VM", "cp", "vm:/nowhere", here)
        self.refused("No such file", "cp", here + "/nowhere", "vm:/tmp")
        self.refused("one of the two", "cp", here, here)

    def test_what_is_in_a_folder(self):
        self.run_d("sleep", "1000", options=["--name", "vm"])
        here = self.folders.name + "/here"
        os.makedirs(here + "/tree")
        with open(here + "/tree/a", "w") as f:
            f.write("A\n")
        for _ in range(2):  # into a folder that has to be made, and into one that is there
            self.ok("cp", here + "/tree/.", "vm:/tmp/all")
        self.assertEqual(self.ok("exec", "vm", "ls", "/tmp/all"), "a\n")
        for _ in range(2):
            self.ok("cp", "vm:/tmp/all/.", here + "/back")
        self.assertEqual(os.listdir(here + "/back"), ["a"])

    def test_streams(self):
        self.run_d("sleep", "1000", options=["--name", "vm"])
        self.ok("exec", "vm", "sh", "-c", "mkdir /tmp/d; echo A >/tmp/d/a; mkdir /tmp/e")
        tar = self.call("cp", "vm:/tmp/d", "-").stdout
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            self.assertEqual(sorted(archive.getnames()), ["d", "d/a"])
        r = subprocess.run([BIN, "cp", "-", "vm:/tmp/e"], input=tar, capture_output=True, env=self.env, timeout=LIMIT)
        self.assertEqual((r.returncode, r.stdout, r.stderr), (0, b"", b""))
        self.assertEqual(self.ok("exec", "vm", "cat", "/tmp/e/d/a"), "A\n")
        self.refused("ended in the VM", "cp", "vm:/nowhere", "-")

    def scratch_image(self):
        """Nothing but one static program: no shell, no tar, no user files."""
        layout, bundle = self.folders.name + "/image", self.folders.name + "/bundle"
        for command in (["init", "--layout", layout], ["new", "--image", layout + ":scratch"], ["unpack", "--image", layout + ":scratch", bundle]):
            subprocess.run(["umoci", *command], check=True, capture_output=True)
        shutil.copy(shutil.which("busybox"), bundle + "/rootfs/sleep")
        for command in (["repack", "--image", layout + ":scratch", bundle], ["config", "--image", layout + ":scratch", "--config.entrypoint", "/sleep"]):
            subprocess.run(["umoci", *command], check=True, capture_output=True)
        return layout

    def test_an_image_without_programs(self):
        """But for one, which is no tar and no shell."""
        self.ok("run", "-d", *ENGINE, "--name", "vm", "-u", "1000", f"oci:{self.scratch_image()}:scratch", "1000")
        here = self.folders.name + "/here"
        os.makedirs(here + "/tree/sub")
        name = "n" * 150
        with open(f"{here}/tree/sub/{name}", "wb") as f:
            f.write(os.urandom(300000))
        os.chmod(f"{here}/tree/sub/{name}", 0o640)
        os.symlink("sub/" + name, here + "/tree/link")
        os.link(f"{here}/tree/sub/{name}", here + "/tree/hard")
        self.ok("cp", here + "/tree", "vm:/made")
        self.ok("cp", here + "/tree/.", "vm:/other")
        self.ok("cp", "vm:/made", here + "/back")
        self.ok("cp", "vm:/other/.", here + "/again")
        for copy in ("back", "again"):
            self.assertEqual(subprocess.run(["diff", "-r", "--no-dereference", here + "/tree", f"{here}/{copy}"]).returncode, 0)
            self.assertEqual(os.stat(f"{here}/{copy}/sub/{name}").st_mode & 0o777, 0o640)
        tar = self.call("cp", "vm:/made", "-").stdout
        r = subprocess.run([BIN, "cp", "-", "vm:/other"], input=tar, capture_output=True, env=self.env, timeout=LIMIT)
        self.assertEqual((r.returncode, r.stdout, r.stderr), (0, b"", b""))
        self.ok("cp", "vm:/proc/version", here)
        with open(here + "/version") as f:
            self.assertIn("Linux version", f.read())
        self.refused("No such file", "cp", here + "/tree/hard", "vm:/no/such")
        self.refused("ended in the VM", "cp", "vm:/nowhere", here)
        # What runs there is seen as well.
        rows = [r.split(None, 7) for r in self.ok("top", "vm").splitlines()]
        self.assertEqual(rows[0], ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"])
        self.assertEqual([(r[0], r[5], r[7]) for r in rows[1:]], [("1000", "?", "/sleep 1000")])
        self.assertEqual(self.ok("top", "vm", "-o", "uid,args"), " UID COMMAND\n1000 /sleep 1000\n")
        self.assertEqual(self.ok("top", "vm", "args"), "COMMAND\n/sleep 1000\n")
        self.assertIn("%CPU", self.ok("top", "vm", "aux"))
        self.refused("no column 'nothing'", "top", "vm", "-o", "nothing")
        self.refused("'--forest'", "top", "vm", "--forest")

    def test_links_in_the_vm(self):
        self.run_d("sleep", "1000", options=["--name", "vm"])
        self.ok("exec", "vm", "sh", "-c", "mkdir /tmp/real; ln -s /tmp/real /tmp/way; echo A >/tmp/real/a; ln -s a /tmp/real/last")
        here = self.folders.name + "/here"
        os.makedirs(here)
        self.ok("cp", "vm:/tmp/way/a", here)
        self.ok("cp", "vm:/tmp/way/last", here)
        self.assertEqual(os.readlink(here + "/last"), "a")
        self.ok("cp", here + "/a", "vm:/tmp/way")
        self.ok("cp", here + "/a", "vm:/tmp/way/b")
        self.assertEqual(self.ok("exec", "vm", "cat", "/tmp/real/a", "/tmp/real/b"), "A\nA\n")
        # The link itself is replaced, not what it leads to.
        self.ok("exec", "vm", "ln", "-s", "/etc/passwd", "/tmp/l")
        self.ok("cp", here + "/a", "vm:/tmp/l")
        self.assertEqual(self.ok("exec", "vm", "cat", "/tmp/l"), "A\n")
        self.assertIn("root", self.ok("exec", "vm", "cat", "/etc/passwd"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
