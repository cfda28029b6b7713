"""Runs groups of end-to-end tests in labs, as many side by side as there are processors: in_labs.py GROUP...

A lab takes half a minute to start, so each runs group after group (take_groups.py). One that stands still, or says that something in it
does, is given up: the groups without a verdict are run in new labs, each group three times at most.
"""

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
PASSED_ON = ["XDG_STATE_HOME", "SUPERMACHINE_BIN", "SUPERMACHINE_IMAGES", "SUPERMACHINE_PODMAN", "SUPERMACHINE_RESTORES",
             "SUPERMACHINE_SERVICES", "SUPERMACHINE_SHORTER"]
SILENCE = 400  # seconds; each test says how it ended, and none waits as long
MEMORY = 4096  # MiB
TRIES = 3

printing = threading.Lock()


def run_lab(queue, groups):
    """Runs one lab to its end and prints, in one piece, what each group in it said."""
    words = [HERE + "/../../scripts/kvm-lab", "--smp", "2", "--mem", str(MEMORY), "--timeout", "3000", "--out", queue]
    for name in PASSED_ON:
        words += ["--env", name]
    words += ["--", "python3", HERE + "/take_groups.py", queue, *groups]
    lab = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    labs.append(lab)
    seen = b""
    while select.select([lab.stdout], [], [], SILENCE)[0]:
        chunk = os.read(lab.stdout.fileno(), 65536)
        if not chunk:
            break
        seen = say_groups(seen + chunk)
    else:
        seen += b"this lab said nothing for %d s and is ended\n" % SILENCE
        lab.terminate()
    lab.wait()
    say(seen)


def say_groups(text):
    """Prints all groups but the last, and returns that."""
    start = text.rfind(b"\n== ") + 1
    say(text[:start])
    return text[start:]


def say(text):
    with printing:
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()


def verdict(queue, group):
    try:
        with open(f"{queue}/{group}.done") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def main(groups, queue):
    left = groups
    for _ in range(TRIES):
        threads = [threading.Thread(target=run_lab, args=(queue, left)) for _ in range(min(len(left), os.cpu_count(), 4))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        left = [group for group in left if not verdict(queue, group)]
        if not left:
            break
        print("a lab stood still; left:", *left, flush=True)
        for group in left:
            shutil.rmtree(f"{queue}/{group}.taken", ignore_errors=True)
    failed = [group for group in groups if verdict(queue, group) != "passed"]
    if failed:
        print("failed:", *failed)
    return 1 if failed else 0


def end(number, _frame):
    for lab in labs:
        lab.terminate()
    sys.exit(128 + number)


labs = []
if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(main(sys.argv[1:], folder))
