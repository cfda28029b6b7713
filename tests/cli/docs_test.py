"""Runs the shell blocks of docs/guide/: those marked `sh`; a `text` block that follows is what the block prints at its end."""

import glob
import os
import re
import shutil
import subprocess
import tempfile
import unittest

BIN = os.environ["SUPERMACHINE_BIN"]
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIMIT = 300  # seconds for a block; the guests run on a software CPU
BLOCK = re.compile(r"^```sh\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.M | re.S)


class Guide(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.home = tempfile.mkdtemp(prefix="sm-docs-", dir="/var/tmp")
        cls.addClassCleanup(shutil.rmtree, cls.home, ignore_errors=True)
        cls.env = dict(os.environ, HOME=cls.home, XDG_DATA_HOME=f"{cls.home}/data", XDG_CACHE_HOME=f"{cls.home}/cache",
                       XDG_CONFIG_HOME=f"{cls.home}/config", XDG_STATE_HOME=f"{cls.home}/state", PATH=os.path.dirname(BIN) + ":" + os.environ["PATH"])
        layout, archive = f"{cls.home}/layout", f"{cls.home}/image.tar"
        for words in ([f"{ROOT}/tests/e2e/make-busybox-image", layout, "busybox"],
                      ["skopeo", "copy", "--quiet", f"oci:{layout}:busybox", f"docker-archive:{archive}:busybox:latest"],
                      [BIN, "load", "-i", archive]):
            subprocess.run(words, check=True, env=cls.env, capture_output=True, timeout=LIMIT)

    def test_every_block(self):
        pages = sorted(glob.glob(f"{ROOT}/docs/guide/*.md"))
        self.assertGreater(len(pages), 5)
        for page in pages:
            with open(page) as f:
                blocks = BLOCK.findall(f.read())
            # A later block may use what an earlier one of its page made.
            folder = tempfile.mkdtemp(dir=self.home)
            for script, expected in blocks:
                with self.subTest(page=os.path.basename(page), script=script):
                    r = subprocess.run(["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, timeout=LIMIT,
                                       env=self.env, cwd=folder)
                    self.assertEqual(r.returncode, 0, r.stderr)
                    self.assertTrue(not expected or r.stdout == expected, (r.stdout, r.stderr))


if __name__ == "__main__":
    unittest.main()
