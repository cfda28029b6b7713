"""End-to-end tests of the flags of `supermachine run` that act in the guest. Started by tests/e2e/run. Each flag is tried in a machine that
boots and in one that goes on from a snapshot: what is asked for comes after either."""

import glob
import os
import subprocess
import tempfile
import unittest

import agent_client
from run_test import LIMIT, RUN, Case as RunCase, busybox, image, run


class Case(RunCase):
    def both_ways(self, options, script, expected, status=0, user=None):
        """The script's output, booted and restored."""
        options = [*options, *(["-u", user] if user else [])]
        for how in ([], ["--no-snapshot"]):
            with self.subTest(options=options, how=how):
                r = busybox("sh", "-c", script, options=[*how, *options])
                self.assertEqual((r.stdout.decode() + r.stderr.decode(), r.returncode), (expected, status))


class ContainerNames(Case):
    def test_add_host(self):
        self.both_ways(["--add-host", "db:10.0.0.7", "--add-host", "cache=10.0.0.8", "--add-host", "six:[fd00::1]"],
                       "head -n 3 /etc/hosts; grep -c localhost /etc/hosts; ping -c 1 -W 1 db 2>&1 | head -n 1",
                       "10.0.0.7\tdb\n10.0.0.8\tcache\nfd00::1\tsix\n2\nPING db (10.0.0.7): 56 data bytes\n")

    def test_an_added_host_wins_over_the_image(self):
        r = run(image("busybox"), "sh", "-c", "ping -c 1 -W 1 localhost | head -n 1", options=["--add-host", "localhost:127.0.0.9"])
        self.assert_output(r, "PING localhost (127.0.0.9): 56 data bytes\n")

    def test_resolver(self):
        self.both_ways(["--dns", "10.0.0.1", "--dns", "fd00::1", "--dns-search", "example.org", "--dns-opt", "ndots:2"], "cat /etc/resolv.conf",
                       "search example.org\nnameserver 10.0.0.1\nnameserver fd00::1\noptions ndots:2\n")

    def test_domain_name_and_host_name(self):
        self.both_ways(["--hostname", "web", "--domainname", "example.org"], "hostname; hostname -f; hostname -d; cat /proc/sys/kernel/domainname",
                       "web\nweb.example.org\nexample.org\nexample.org\n")


class ContainerMounts(Case):
    def test_tmpfs(self):
        self.both_ways(["--tmpfs", "/new/dir:size=1m", "--tmpfs", "/home/user:exec,mode=0700,uid=1000,gid=50", "--tmpfs", "/tmp:ro"],
                       "stat -c '%n %a %u:%g' /new/dir /home/user /tmp; for m in /new/dir /home/user /tmp; do grep \" $m \" /proc/mounts | cut -d' ' -f3,4; "
                       "done; dd if=/dev/zero of=/new/dir/x bs=64k count=17 2>/dev/null || echo full; touch /tmp/x",
                       "/new/dir 1777 0:0\n/home/user 700 1000:50\n/tmp 1777 0:0\n"
                       "tmpfs rw,nosuid,nodev,noexec,relatime,size=1024k\n"
                       "tmpfs rw,nosuid,nodev,relatime,mode=700,uid=1000,gid=50\n"
                       "tmpfs ro,nosuid,nodev,noexec,relatime\n"
                       "full\ntouch: /tmp/x: Read-only file system\n", 1)

    def test_shm_size(self):
        self.both_ways(["--shm-size", "8m"], "df -k /dev/shm | awk 'END { print $2 }'; stat -c %a /dev/shm; grep ' /dev/shm ' /proc/mounts | cut -d' ' -f4",
                       "8192\n1777\nrw,nosuid,nodev,noexec,relatime,size=8192k\n")

    def test_read_only(self):
        self.both_ways(["--read-only", "--tmpfs", "/run", "--tmpfs", "/not/there", "-w", "/made/for/it", "--add-host", "a:10.0.0.1"],
                       "for f in /etc /var /tmp /root .; do touch $f/x 2>/dev/null && echo $f; done; touch /run/x /not/there/x /dev/shm/x /dev/x && "
                       "echo 4096 > /proc/sys/net/core/somaxconn && pwd; grep -c '\ta$' /etc/hosts; chmod 755 /etc",
                       "/made/for/it\n1\nchmod: /etc: Read-only file system\n", 1)

    def test_kernel_settings(self):
        self.both_ways(["--sysctl", "net.core.somaxconn=77", "--sysctl", "net/ipv4/tcp_rmem=4096 8192 16384", "--sysctl", "kernel.msgmax=9000"],
                       "cat /proc/sys/net/core/somaxconn /proc/sys/net/ipv4/tcp_rmem /proc/sys/kernel/msgmax", "77\n4096\t8192\t16384\n9000\n")


class ContainerLimits(Case):
    def test_ulimits(self):
        self.both_ways(["--ulimit", "nofile=100:200", "--ulimit", "core=0", "--ulimit", "fsize=1024:-1"],
                       "ulimit -Sn; ulimit -Hn; ulimit -c; ulimit -Sf; ulimit -Hf", "100\n200\n0\n2\nunlimited\n")
        self.both_ways(["--ulimit", "nofile=100:200"], "ulimit -Sn; ulimit -Hn; ulimit -Sn 150 && ulimit -n; ulimit -n 300 2>/dev/null || echo no",
                       "100\n200\n150\nno\n", user="user")

    def test_processes(self):
        script = "i=0; while [ $i -lt 30 ]; do sleep 60 & i=$((i + 1)); done"
        self.both_ways(["--pids-limit", "10"], script, "sh: can't fork: Resource temporarily unavailable\n", 2)
        self.both_ways(["--pids-limit", "-1"], script, "")

    def test_out_of_memory_score(self):
        self.both_ways(["--oom-score-adj", "-500"], "cat /proc/self/oom_score_adj", "-500\n", user="user")
        self.both_ways(["--oom-score-adj=700"], "cat /proc/self/oom_score_adj", "700\n")


SETS = "grep -E '^Cap' /proc/self/status | cut -f 2 | sed 's/^0*//' | tr '\\n' ' '; echo"


class ContainerPrivileges(Case):
    def test_without_flags_root_has_all_and_others_may_have_all(self):
        self.both_ways([], SETS, " 1ffffffffff 1ffffffffff 1ffffffffff  \n")
        self.both_ways([], SETS, "   1ffffffffff  \n", user="user")

    def test_dropped(self):
        self.both_ways(["--cap-drop", "chown", "--cap-drop", "CAP_MKNOD"], SETS + "; chown 1 /etc; mknod /tmp/x c 1 3",
                       " 1fff7fffffe 1fff7fffffe 1fff7fffffe  \nchown: /etc: Operation not permitted\nmknod: /tmp/x: Operation not permitted\n", 1)

    def test_all_dropped_and_some_added(self):
        self.both_ways(["--cap-drop", "ALL", "--cap-add", "NET_ADMIN", "--cap-add", "CAP_CHOWN"], SETS, " 1001 1001 1001  \n")
        self.both_ways(["--cap-drop", "ALL", "--cap-add", "NET_ADMIN"], SETS, "   1000  \n", user="user")
        self.both_ways(["--cap-drop", "ALL"], SETS + "; touch /home/user/x", "     \ntouch: /home/user/x: Permission denied\n", 1)

    def test_no_way_back_through_setuid_programs_and_file_capabilities(self):
        self.assert_output(run(image("layered"), "/data/setuid/ids", options=["-u", "user"]), "1000 0\n")
        r = run(image("layered"), "/data/setuid/ids", options=["-u", "user", "--security-opt", "no-new-privileges"])
        self.assert_output(r, "1000 1000\n")
        words = ["/data/capable/busybox", "grep", "CapEff", "/proc/self/status"]
        r = run(image("layered"), *words, options=["-u", "user", "--security-opt", "no-new-privileges:true"])
        self.assertEqual(int(r.stdout.split()[1], 16), 0, r)

    def test_groups(self):
        self.both_ways(["--group-add", "staff", "--group-add", "4711"], "id -G", "0 50 4711\n")
        self.both_ways(["--group-add", "4711"], "id -G", "1000 4711\n", user="user:1000")


class ContainerLaterPrograms(Case):
    def test_they_live_with_the_same_settings(self):
        with tempfile.TemporaryDirectory(prefix="sm-e2e-") as folder:
            vm = subprocess.Popen([*RUN, "--ulimit", "nofile=99", "--cap-drop", "ALL", "--read-only", "--tmpfs", "/t", "--group-add", "4711",
                                   "--security-opt", "no-new-privileges", "--pids-limit", "50", image("busybox"), "sh", "-c", "echo up; sleep 1000"],
                                  stdout=subprocess.PIPE, env=dict(os.environ, XDG_RUNTIME_DIR=folder))
            try:
                self.assertEqual(vm.stdout.readline(), b"up\n")
                path, = glob.glob(f"{folder}/supermachine/vm-*/exec.sock")
                script = (f"ulimit -n; {SETS}; id -G; grep -c 'NoNewPrivs:.1' /proc/self/status; touch /x 2>/dev/null || echo closed; touch /t/x && echo open; "
                          "cat /sys/fs/cgroup/supermachine/pids.max")
                self.assertEqual(agent_client.execute(path, LIMIT, "sh", "-c", script), ("99\n     \n0 4711\n1\nclosed\nopen\n50\n", 0))
            finally:
                vm.terminate()
                vm.communicate(timeout=LIMIT)


class ContainerCgroups(Case):
    def test_the_memory_controller_is_there_but_for_the_software_cpu(self):
        r = busybox("sh", "-c", "grep -cw memory /sys/fs/cgroup/cgroup.controllers; grep -cw pids /sys/fs/cgroup/cgroup.controllers; "
                    "grep -c 'name.*: supermachine' /proc/cpuinfo", options=["--no-snapshot", "--cpus", "1"])
        self.assertIn(r.stdout, (b"1\n1\n0\n", b"0\n1\n1\n"), r.stderr)


class ContainerRefusals(Case):
    def test_what_is_wrong_is_named_before_anything_starts(self):
        for flag, value in (("--add-host", "db"), ("--dns", "dns.example"), ("--dns-search", "a b"), ("--dns-option", "a b"), ("--tmpfs", "relative"),
                            ("--tmpfs", "/t:fancy"), ("--shm-size", "none"), ("--ulimit", "files=1"), ("--ulimit", "nofile=2:1"), ("--cap-add", "ROOT"),
                            ("--cap-drop", "ROOT"), ("--group-add", "a:b"), ("--sysctl", "kernel"), ("--security-opt", "fancy"),
                            ("--oom-score-adj", "-1001"), ("--pids-limit", "-2"), ("--domainname", "a b")):
            # No such image: it would be the next thing to be complained about.
            r = run("oci:/nowhere:x", options=[flag, value])
            self.assertEqual((r.returncode, r.stdout), (125, b""), (flag, value, r))
            self.assertTrue(r.stderr.decode().startswith(f"supermachine: error: {flag} {value}"), r.stderr)

    def test_what_only_the_guest_can_know(self):
        for options, text in ((["--group-add", "no-such-group"], "no-such-group"), (["--sysctl", "kernel.no_such=1"], "kernel/no_such"),
                              (["--sysctl", "net.core.somaxconn=x"], "net/core/somaxconn"), (["--ulimit", "nofile=-1"], "nofile"),
                              (["--tmpfs", "/etc/passwd"], "/etc/passwd")):
            r = busybox("echo", "ran", options=options)
            self.assertEqual((r.returncode, r.stdout), (125, b""), (options, r))
            self.assertIn(text, r.stderr.decode())
            self.assertTrue(r.stderr.startswith(b"supermachine: error: "), r.stderr)

    def test_what_is_so_anyway_is_accepted(self):
        self.assert_output(busybox("echo", "x", options=["--init", "--security-opt", "seccomp=unconfined"]), "x\n")


if __name__ == "__main__":
    unittest.main(verbosity=2)
