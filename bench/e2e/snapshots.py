#!/usr/bin/env python3
"""snapshots: what saved machines cost. Prints JSON with medians and percentiles.

usage: snapshots.py BIN_DIR [--engine E] [--runs N] [--only restore|qemu|run|first|bake_image|pause|idle]... [--json FILE]

restore  worker start -> first exec answered, the guest's resume included, with 128, 512 and 2048 MiB and 2 vCPUs; and a boot for comparison
qemu     start of the process -> the restored guest says that it is a copy, beside QEMU's microvm with the same kernel, memory and
         initramfs, stored by `migrate` into a file and loaded by `-incoming`, in turns (with KVM, or with TCG where the engine is `soft`)
run      `supermachine run` of a baked busybox image, beside `podman run` of the same image where podman works, in turns
first    the first `supermachine run --rm` of a busybox image, in turns: on a machine without snapshots (boots, saves kernel and image), with a booted
         kernel (goes on from it, saves the image), with --no-snapshot; worker start -> image saved, from a boot and from a booted kernel
bake_image  `supermachine bake` of a busybox image under a tag, in turns: on a machine without snapshots, with a booted kernel, and under a second
         name when the same inputs have one already (a sibling)
pause    how long a running guest stands still for a snapshot, with 16 and 256 MiB of fresh pages; bytes and time of a diff and of a whole one
idle     memory of 10 and of 50 idle VMs restored from one snapshot, for each VM (proportional share)
"""

import glob
import os
import shutil
import statistics
import subprocess
import time

import qemu
from agent import Exec, resume
from figures import main, summary
from worker import Worker, now, pack_layer, static_initramfs


class Bench:
    def __init__(self, arguments, folder):
        self.bin = os.path.abspath(arguments.bin_dir)
        self.engine, self.runs, self.folder = arguments.engine, arguments.runs, folder
        self.socket = f"{folder}/exec.sock"
        self.initramfs = f"{self.bin}/../guest/initramfs.cpio"
        self.layer = self._layer()

    def _layer(self):
        root = f"{self.folder}/layer"
        os.makedirs(f"{root}/bin")
        shutil.copy("/bin/busybox", f"{root}/bin")
        for name in ("true", "sh", "head", "sleep"):
            os.symlink("busybox", f"{root}/bin/{name}")
        return pack_layer(self.bin, root)

    def worker(self, *words, memory=None, socket=None, snapshot=None):
        socket = socket or self.socket
        if os.path.exists(socket):
            os.unlink(socket)
        return Worker(self.bin, self.initramfs, self.engine, socket, [self.layer], memory_mib=memory, snapshot=snapshot,
                      more=["--vcpus", "2", *words] if snapshot is None else list(words))

    def bake(self, name, memory):
        path = f"{self.folder}/{name}"
        vm = self.worker("--no-sandbox", "--snapshot-on-pre-exec", "--snapshot-out", path, memory=memory)
        answer = vm.answer()
        took = now() - vm.start
        vm.end()
        return path, answer, took

    def restored(self, path, words=(), **more):
        vm = self.worker(*words, snapshot=path, **more)
        vm.until("started")
        resume(more.get("socket", self.socket), 1)
        return vm

    def restore(self):
        result = {}
        sizes = (128, 512, 2048)
        baked = {size: self.bake(f"restore{size}", size)[0] for size in sizes}
        times = {size: [] for size in sizes}
        boots = []
        for n in range(self.runs + 1):
            for size in sizes:
                vm = self.restored(baked[size])
                Exec(self.socket, ["true"]).wait()
                times[size].append((now() - vm.start) / 1e6)
                vm.end()
            if n % 10 == 0:
                vm = self.worker(memory=512)
                vm.until("agent-ready")
                Exec(self.socket, ["true"]).wait()
                boots.append((now() - vm.start) / 1e6)
                vm.end()
        for size in sizes:
            result[f"restore_to_first_exec_{size}_mib_ms"] = summary(times[size][1:])
        result["boot_to_first_exec_512_mib_ms"] = summary(boots)
        return result

    def answering(self):
        """A saved machine whose PID 1 waits until it is a copy, and its initramfs."""
        initramfs, log, path = static_initramfs(self.folder, "answer_init.c"), f"{self.folder}/answer.log", f"{self.folder}/answer"
        vm = Worker(self.bin, initramfs, self.engine, more=["--no-sandbox", "--log-sink", log])
        vm.until("started")
        while b"ready" not in (open(log, "rb").read() if os.path.exists(log) else b""):
            time.sleep(0.01)
        vm.ask(type="snapshot", id=1, path=path, changed_only=False, replace=False)
        vm.end()
        return path, initramfs

    def answer(self, path):
        """Nanoseconds from the worker's start to the doorbell."""
        vm = Worker(self.bin, None, self.engine, snapshot=path)
        took = vm.until("booted")
        vm.end()
        return took

    def qemu(self):
        path, initramfs = self.answering()
        command = qemu.words(self.bin, self.engine, initramfs)
        state = qemu.save(command, b"ready", self.folder)
        restores = (lambda: self.answer(path), lambda: qemu.restore(command, state))
        pairs, silent = [], 0
        while len(pairs) < self.runs + 1:
            # Who comes first pays for what the round before has left: they take turns.
            order = (0, 1) if len(pairs) % 2 == 0 else (1, 0)
            try:
                times = {n: restores[n]() / 1e6 for n in order}
            except qemu.NoAnswer:
                silent += 1
                if silent > self.runs:
                    raise
                continue
            pairs.append((times[0], times[1]))
        ours, theirs = zip(*pairs[1:])  # the first fills the page cache
        return {"restore_to_answer_ms": summary(list(ours)), "qemu_restore_to_answer_ms": summary(list(theirs)),
                "restore_ratio_to_qemu": statistics.median(a / b for a, b in zip(ours, theirs)), "qemu_restores_without_answer": silent}

    def image(self):
        """An OCI layout with busybox, and the same in podman's store when podman works."""
        layout = f"{self.folder}/image"
        subprocess.run([os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/e2e/make-busybox-image"), layout, "busybox"],
                       check=True, stdout=subprocess.DEVNULL)
        self.podman = ["podman", "--cgroup-manager", "cgroupfs", "--runtime", "runc"]
        try:
            subprocess.run([*self.podman, "pull", "-q", f"oci:{layout}:busybox"], check=True, capture_output=True)
            name = subprocess.run([*self.podman, "images", "-q"], check=True, capture_output=True, text=True).stdout.split()[0]
            run = [*self.podman, "run", "--rm", "--network", "none", name, "true"]
            subprocess.run(run, check=True, capture_output=True)
            return layout, run
        except (OSError, subprocess.CalledProcessError):
            return layout, None

    def run(self):
        layout, podman = self.image()
        env = dict(os.environ, XDG_CACHE_HOME=f"{self.folder}/cache")
        ours = [f"{self.bin}/supermachine", "run", "--engine", self.engine, f"oci:{layout}:busybox", "true"]
        commands = {"run_baked_ms": ours, "run_cold_ms": [*ours[:2], "--no-snapshot", *ours[2:]]}
        if podman:
            commands["podman_run_ms"] = podman
        times = {name: [] for name in commands}
        subprocess.run(ours, check=True, env=env)
        for _ in range(self.runs):
            for name, command in commands.items():
                start = now()
                subprocess.run(command, check=True, env=env, capture_output=True)
                times[name].append((now() - start) / 1e6)
        result = {name: summary(values) for name, values in times.items()}
        if podman:
            result["run_ratio_to_podman"] = result["run_baked_ms"]["p50"] / result["podman_run_ms"]["p50"]
        return result

    def forget(self, cache, kernels):
        """Removes what is saved of images, and of booted kernels."""
        for path in glob.glob(f"{cache}/supermachine/snapshots/*") + glob.glob(f"{cache}/supermachine/tags/*"):
            with open(f"{path}/manifest.json") as f:
                is_kernel = "<booted kernel>" in f.read()
            if kernels or not is_kernel:
                shutil.rmtree(path)

    def bake_image(self):
        layout, _ = self.image()
        cache = f"{self.folder}/bake"
        env = dict(os.environ, XDG_CACHE_HOME=cache)
        command = [f"{self.bin}/supermachine", "bake", "--engine", self.engine, "--tag"]
        image = f"oci:{layout}:busybox"
        subprocess.run([*command, "warm", image], check=True, env=env, capture_output=True)
        times = {"bake_cold_ms": [], "bake_with_kernel_ms": [], "bake_sibling_ms": []}
        for _ in range(max(5, self.runs // 5)):
            for name, kernels, tag in (("bake_cold_ms", True, "a"), ("bake_with_kernel_ms", False, "a"), ("bake_sibling_ms", None, "b")):
                if kernels is not None:
                    self.forget(cache, kernels)
                start = now()
                subprocess.run([*command, tag, image], check=True, env=env, capture_output=True)
                times[name].append((now() - start) / 1e6)
        return {name: summary(values) for name, values in times.items()}

    def first(self):
        layout, _ = self.image()
        env = dict(os.environ, XDG_CACHE_HOME=f"{self.folder}/first")
        run = [f"{self.bin}/supermachine", "run", "--rm", "--engine", self.engine]
        end = [f"oci:{layout}:busybox", "true"]
        subprocess.run([*run, "--no-snapshot", *end], check=True, env=env)

        ways = {"of_all": (True, []), "of_an_image": (False, []), "no_snapshot": (False, ["--no-snapshot"])}
        kernel = f"{self.folder}/booted"
        vm = self.worker("--no-sandbox", "--layer-slots", "1", "--snapshot-on-kernel", "--snapshot-out", kernel, memory=512)
        vm.answer()
        vm.end()
        times = {}
        for n in range(max(5, self.runs // 5) + 1):
            for way, (kernels, words) in ways.items():
                self.forget(f"{self.folder}/first", kernels)
                start = now()
                subprocess.run([*run, *words, *end], check=True, env=env)
                times.setdefault(f"first_run_{way}_ms", []).append((now() - start) / 1e6)
            for way, snapshot in (("boot", None), ("kernel", kernel)):
                path = f"{self.folder}/first_{way}_{n}"
                vm = self.worker("--no-sandbox", "--snapshot-on-pre-exec", "--snapshot-out", path, memory=512, snapshot=snapshot)
                vm.answer()
                times.setdefault(f"bake_from_{way}_ms", []).append((now() - vm.start) / 1e6)
                vm.end()
                shutil.rmtree(path)
        return {name: summary(values[1:]) for name, values in times.items()}

    def pause(self):
        result = {}
        base = self.bake("pause", 1024)[0]
        for mib in (16, 256):
            pauses, sizes, wholes = [], [], []
            for n in range(max(3, self.runs // 10)):
                vm = self.restored(base, words=["--no-sandbox"])
                hold = Exec(self.socket, ["sh", "-c", f"head -c {mib << 20} /dev/urandom >/data; sleep 100"])
                check = f"[ $(wc -c </data) = {mib << 20} ]"
                while Exec(self.socket, ["sh", "-c", check.replace("wc", "busybox wc")]).wait() != 0:
                    pass
                answer = vm.ask(type="snapshot", id=1, path=f"{self.folder}/diff", changed_only=True, replace=True)
                pauses.append(answer["pause_ns"] / 1e6)
                sizes.append(answer["bytes"] / (1 << 20))
                start = now()
                vm.ask(type="snapshot", id=2, path=f"{self.folder}/whole", changed_only=False, replace=True)
                wholes.append((now() - start) / 1e6)
                vm.end()
                hold.socket.close()
            result[f"live_pause_{mib}_mib_dirty_ms"] = summary(pauses)
            result[f"diff_{mib}_mib_dirty_mib"] = summary(sizes)
            result[f"whole_snapshot_{mib}_mib_dirty_ms"] = summary(wholes)
        return result

    def idle(self):
        path = self.bake("idle", 512)[0]
        result = {}
        for count in (10, 50):
            vms = [self.restored(path, socket=f"{self.folder}/idle{n}.sock") for n in range(count)]
            shares = []
            for vm in vms:
                with open(f"/proc/{vm.process.pid}/smaps_rollup") as f:
                    shares.append(next(int(line.split()[1]) for line in f if line.startswith("Pss:")) / 1024)
            for vm in vms:
                vm.end()
            result[f"idle_restored_vm_of_{count}_mib"] = summary(shares)
        return result


if __name__ == "__main__":
    main(__doc__, Bench, ("restore", "qemu", "run", "first", "bake_image", "pause", "idle"), runs=100)
