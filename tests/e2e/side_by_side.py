"""Runs files of end-to-end tests, as many side by side as there are processors: side_by_side.py FILE...

What a file's tests print comes in one piece. Their VMs, with records and sockets, are their own; the caches are shared.
"""

import concurrent.futures
import os
import subprocess
import sys
import tempfile


def run(path, folder):
    own = tempfile.mkdtemp(dir=folder)
    os.mkdir(own + "/run", 0o700)
    env = dict(os.environ, XDG_STATE_HOME=own + "/state", XDG_RUNTIME_DIR=own + "/run")
    done = subprocess.run([sys.executable, path], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return path, done


def main(paths):
    failed = []
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for future in concurrent.futures.as_completed([pool.submit(run, path, folder) for path in paths]):
            path, done = future.result()
            name = os.path.basename(path)
            sys.stdout.buffer.write(f"== {name}\n".encode() + done.stdout)
            sys.stdout.buffer.flush()
            if done.returncode != 0:
                failed.append(name)
    if failed:
        print("failed:", *failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
