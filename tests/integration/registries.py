"""Images, registries and a proxy for tests of the registry client. Everything on the loopback, everything below one folder."""

import contextlib
import gzip
import hashlib
import http.client
import http.server
import io
import json
import os
import random
import socket
import subprocess
import tarfile
import threading
import time

LIMIT = 600  # seconds for anything that is waited for; a guest may run on an emulated processor


def free_port():
    """None of those that the kernel gives to whoever wants any: they may be somebody else's before the registry takes it."""
    for port in random.sample(range(20000, 32000), 100):
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port")


def layer_tar(files):
    """A tar stream of {name: (mode, bytes)}."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, (mode, data) in files.items():
            info = tarfile.TarInfo(name)
            info.mode, info.size = mode, len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def noise(size, seed):
    return random.Random(seed).randbytes(size)


def write_layout(folder, layers, cmd=("/bin/busybox", "echo", "hello"), architectures=("amd64",)):
    """An OCI layout with one image, tag v1; an index of variants when there are several architectures. Returns the configuration's digest."""
    os.makedirs(f"{folder}/blobs/sha256")

    def blob(data, media_type):
        digest = hashlib.sha256(data).hexdigest()
        with open(f"{folder}/blobs/sha256/{digest}", "wb") as f:
            f.write(data)
        return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(data)}

    prefix = "application/vnd.oci.image."
    tars = [layer_tar(files) for files in layers]
    packed = [blob(gzip.compress(tar, 1, mtime=0), prefix + "layer.v1.tar+gzip") for tar in tars]
    manifests = []
    for architecture in architectures:
        config = {"architecture": architecture, "os": "linux", "config": {"Cmd": list(cmd), "Env": ["PATH=/bin"]},
                  "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(tar).hexdigest() for tar in tars]},
                  "history": [{"created_by": f"step {i}"} for i in range(len(tars))]}
        config_blob = blob(json.dumps(config).encode(), prefix + "config.v1+json")
        manifest = {"schemaVersion": 2, "mediaType": prefix + "manifest.v1+json", "config": config_blob, "layers": packed}
        entry = blob(json.dumps(manifest).encode(), prefix + "manifest.v1+json")
        entry["platform"] = {"os": "linux", "architecture": architecture}
        manifests.append((entry, config_blob["digest"]))
    top, config_digest = manifests[0]
    if len(manifests) > 1:
        index = {"schemaVersion": 2, "mediaType": prefix + "index.v1+json", "manifests": [entry for entry, _ in manifests]}
        top = blob(json.dumps(index).encode(), prefix + "index.v1+json")
    top["annotations"] = {"org.opencontainers.image.ref.name": "v1"}
    with open(f"{folder}/oci-layout", "w") as f:
        f.write('{"imageLayoutVersion":"1.0.0"}')
    with open(f"{folder}/index.json", "w") as f:
        json.dump({"schemaVersion": 2, "manifests": [top]}, f)
    return config_digest


class Registry:
    """Debian's docker-registry on a port of its own."""

    def __init__(self, folder, password_file=None, certificate=None, key=None):
        os.makedirs(folder)
        self.port = free_port()
        self.host = f"localhost:{self.port}"
        config = ["version: 0.1", "log: {accesslog: {disabled: false}, level: warn}", f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}",
                  "http:", f"  addr: 127.0.0.1:{self.port}"]
        if certificate:
            config += ["  tls:", f"    certificate: {certificate}", f"    key: {key}"]
        if password_file:
            config += ["auth:", f"  htpasswd: {{realm: test, path: {password_file}}}"]
        with open(f"{folder}/config.yml", "w") as f:
            f.write("\n".join(config) + "\n")
        self.log = f"{folder}/log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(["docker-registry", "serve", f"{folder}/config.yml"], stdout=log, stderr=log)
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("docker-registry did not start: " + open(self.log).read())
                time.sleep(0.05)

    def close(self):
        self.process.kill()
        self.process.wait()


class HoldingProxy:
    """Passes requests on to a registry, but holds an answer back after `hold_after` bytes of a blob until it is released."""

    def __init__(self, registry, hold_after):
        self.held = threading.Event()  # a blob is being held
        self.release = threading.Event()
        self.ranges = []
        self.gets = []
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                upstream = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=LIMIT)
                headers = {k: v for k, v in self.headers.items() if k.lower() in ("accept", "range", "authorization")}
                upstream.request("GET", self.path, headers=headers)
                answer = upstream.getresponse()
                body = answer.read()
                upstream.close()
                proxy.gets.append(self.path)
                if "Range" in self.headers:
                    proxy.ranges.append(self.headers["Range"])
                try:
                    self.send_response(answer.status)
                    for key, value in answer.getheaders():
                        if key.lower() in ("content-type", "content-length", "content-range", "docker-content-digest"):
                            self.send_header(key, value)
                    self.send_header("Connection", "close")
                    self.end_headers()
                    if "/blobs/" in self.path and len(body) > hold_after and not proxy.release.is_set():
                        self.wfile.write(body[:hold_after])
                        self.wfile.flush()
                        proxy.held.set()
                        proxy.release.wait(LIMIT)
                        body = body[hold_after:]
                    self.wfile.write(body)
                except OSError:
                    pass  # the client was killed

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"localhost:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self):
        self.release.set()
        self.server.shutdown()
        self.server.server_close()
