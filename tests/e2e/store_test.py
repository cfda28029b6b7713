"""End-to-end tests of VMs and the image store: what a VM on record needs stays. Started by tests/e2e/run."""

import io
import json
import os
import tarfile
import unittest

from lifecycle_test import ENGINE, IMAGES, Case


def archive_of(tag, again=""):
    """An archive with one image of the tests' layout, named `stored`; `again` makes it another image of the same layers."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        def add(name, data):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))

        def blob(digest):
            with open(f"{IMAGES}/blobs/{digest.replace(':', '/')}", "rb") as f:
                return f.read()

        with open(f"{IMAGES}/index.json") as f:
            entry = next(e for e in json.load(f)["manifests"] if e["annotations"]["org.opencontainers.image.ref.name"] == tag)
        manifest = json.loads(blob(entry["digest"]))
        config = blob(manifest["config"]["digest"])
        if again:
            config = json.dumps(dict(json.loads(config), author=again)).encode()
        layers = [os.path.basename(l["digest"].replace(":", "/")) + ".tar" for l in manifest["layers"]]
        add("config.json", config)
        for layer, name in zip(manifest["layers"], layers):
            add(name, blob(layer["digest"]))
        add("manifest.json", json.dumps([{"Config": "config.json", "RepoTags": ["stored:1"], "Layers": layers}]).encode())
    return out.getvalue()


class StoredImages(Case):
    def setUp(self):
        super().setUp()
        self.env.update(XDG_DATA_HOME=self.folders.name + "/data", XDG_CACHE_HOME=self.folders.name + "/cache")
        self.ok("load", stdin=archive_of("busybox"))
        self.id = json.loads(self.ok("images", "--format", "json"))["ID"][7:19]
        self.ok("create", *ENGINE, "--name", "later", "stored:1", "echo", "started")

    def ids(self):
        return [(row["Tag"], row["ID"][7:19]) for row in map(json.loads, self.ok("images", "--format", "json").splitlines())]

    def start(self):
        self.assertEqual(self.ok("start", "-a", "later"), "started\n")

    def test_an_image_in_use_is_not_removed(self):
        for word in ("stored:1", self.id):
            self.refused("used by the VM later", "rmi", word)
        self.refused("used by the VM later", "image", "rm", "stored:1")
        self.ok("tag", "stored:1", "stored:2")
        self.assertEqual(self.ok("rmi", "stored:1"), "Untagged: docker.io/library/stored:1\n")
        self.start()
        self.refused("used by the VM later", "rmi", "stored:2")
        self.assertEqual(self.ok("rmi", "-f", "stored:2"), "Untagged: docker.io/library/stored:2\n")
        self.assertEqual(self.ids(), [("<none>", self.id)])
        self.refused("used by the VM later", "rmi", "-f", self.id)
        self.ok("image", "prune", "-f")
        self.ok("image", "prune", "-a", "-f")
        self.start()
        self.ok("rm", "later")
        self.assertIn("Deleted: sha256:", self.ok("rmi", self.id))
        self.assertEqual(self.ids(), [])

    def test_a_name_that_moves_leaves_the_old_image(self):
        self.ok("load", stdin=archive_of("busybox", again="somebody else"))
        (new, other) = self.ids()
        self.assertEqual((new[0], other), ("1", ("<none>", self.id)))
        self.ok("image", "prune", "-f")
        self.start()
        self.ok("image", "prune", "-a", "-f")
        self.assertEqual(self.ids(), [("<none>", self.id)])
        self.start()
        self.ok("rm", "later")
        pruned = json.loads(self.ok("image", "prune", "-f", "--format", "json"))
        self.assertEqual((len(pruned["Untagged"]), len(pruned["Layers"])), (1, 1))
        self.assertEqual(self.ids(), [])

    def test_layers_of_a_tagged_snapshot_stay(self):
        self.ok("bake", *ENGINE, "-m", "64m", "--tag", "warm", "stored:1")
        self.ok("rm", "later")
        self.ok("rmi", "stored:1")
        self.ok("image", "prune", "-a", "-f")
        self.assertEqual(self.ok("restore", "warm", "echo", "restored"), "restored\n")


if __name__ == "__main__":
    unittest.main(verbosity=2)
