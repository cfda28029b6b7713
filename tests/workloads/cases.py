"""What runs in the guest and natively, to the same output and exit status."""

import dataclasses

# Packages of each image (make-image).
IMAGES = {
    "stress": ["stress-ng"],
    "tools": ["openssl", "sqlite3", "perl", "gcc", "libc6-dev", "lua5.4", "ruby", "git", "xz-utils", "zstd", "gawk", "bc"],
    "python": ["libpython3.11-testsuite", "python3"],
    "node": ["nodejs"],
    "services": ["nginx-light", "redis-server", "postgresql", "curl"],
    "java": ["default-jdk-headless"],
}


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    image: str
    command: str  # for sh, in the folder /workload that holds guest/
    cpus: int = 1
    memory: str = "512m"
    fast: bool = False  # part of the default run, which makes no more than two images
    limit: int = 600  # seconds in the guest


# Tests whose end is not the guest's doing, by module: part of the name -> why.
CPYTHON_LEFT_OUT = {
    "test_largefile": {"TestCopyfile": "needs more disk than native runs have", "TestSocketSendfile": "the same"},
    "test_os": {"TestScandir.test_attributes": "an overlay's inode numbers, which hosts' kernels give differently"},
    "test_socket": {"VSOCK": "runs in virtual machines only",
                    "LinuxKernelCryptoAPI": "hosts' kernels may not have it"},
    "test_uuid": {"test_ifconfig_getnode": "needs a network card, which native runs may not have"},
    "test_signal": {"test_siginterrupt_off": "waits until a time limit is over, which cpython.py makes long"},
}

CPYTHON_MODULES = """
    test_float test_math test_cmath test_struct test_long test_int test_complex test_fractions test_decimal test_numeric_tower test_random
    test_statistics test_json test_re test_unicode test_bytes test_codecs test_format test_fstring test_string test_strtod test_zlib test_gzip
    test_bz2 test_lzma test_tarfile test_zipfile test_hashlib test_hmac test_binascii test_base64 test_array test_memoryview test_buffer
    test_dict test_set test_list test_tuple test_sort test_heapq test_bisect test_itertools test_functools test_collections test_generators
    test_coroutines test_exceptions test_traceback test_sys test_gc test_weakref test_descr test_compile test_dis test_peepholer
    test_threading test_thread test_threading_local test_queue test_sched test_subprocess test_signal test_faulthandler test_mmap test_ctypes
    test_socket test_select test_selectors test_poll test_epoll test_pty test_ssl test_asyncio test_multiprocessing_fork
    test_multiprocessing_spawn test_multiprocessing_forkserver test_concurrent_futures test_sqlite3 test_time test_datetime test_calendar
    test_os test_posix test_io test_fileio test_largefile test_tempfile test_shutil test_glob test_pathlib test_fcntl test_resource
    test_pickle test_marshal test_copy test_xml_etree test_minidom test_csv test_configparser test_audioop test_colorsys
    test_crypt test_uuid test_ipaddress test_email test_http_cookies test_httpservers test_urllib test_tracemalloc test_zoneinfo
    test_grammar test_ast test_tokenize test_inspect test_typing test_dataclasses test_enum test_unittest test_doctest test_argparse
""".split()
CPYTHON_FAST = {"test_float", "test_struct", "test_ctypes"}
CPYTHON_MANY_CPUS = {"test_threading", "test_thread", "test_queue", "test_subprocess", "test_signal", "test_socket", "test_ssl", "test_asyncio",
                     "test_multiprocessing_fork", "test_multiprocessing_spawn", "test_multiprocessing_forkserver", "test_concurrent_futures"}


def stress_cases():
    for group in ("cpu", "float", "memory", "integer", "text", "process"):
        for cpus in (1, 2, 4):
            yield Case(f"stress/{group}-{cpus}", "stress", f"sh stress.sh {group} {cpus}", cpus=cpus, limit=1200)


def cpython_cases():
    for module in CPYTHON_MODULES:
        command = " ".join(["python3 cpython.py", module, *CPYTHON_LEFT_OUT.get(module, {})])
        # test_compile takes 680 MiB.
        yield Case(f"cpython/{module}", "python", command, cpus=2 if module in CPYTHON_MANY_CPUS else 1, memory="1g",
                   fast=module in CPYTHON_FAST, limit=1800)


def tool_cases():
    for name, command in (
        ("openssl/digests", "sh digests.sh"),
        ("openssl/signatures", "sh signatures.sh"),
        ("sqlite/database", "sqlite3 database.db <database.sql"),
        ("perl/program", "perl perl.pl"),
        ("gcc/compile", "sh compile.sh"),
        ("lua/program", "lua5.4 language.lua"),
        ("ruby/program", "ruby language.rb"),
        ("tools/archive", "sh archive.sh"),
        ("tools/text", "sh text.sh"),
        ("tools/git", "sh git.sh"),
    ):
        yield Case(name, "tools", command, cpus=2 if name == "openssl/signatures" else 1, fast=name not in ("gcc/compile", "openssl/signatures"))


def processor_cases():
    for cpus in (1, 2, 4):
        yield Case(f"processor/atomics-{cpus}", "tools", "gcc -O1 atomics.c -o atomics -pthread && ./atomics", cpus=cpus, fast=cpus == 2)
    for cpus in (1, 2):
        yield Case(f"processor/corners-{cpus}", "tools", "gcc -O1 -fno-strict-aliasing corners.c -o corners -lm -pthread && ./corners",
                   cpus=cpus, fast=cpus == 2)


def jit_cases():
    for cpus in (1, 2, 4):
        yield Case(f"node/program-{cpus}", "node", "node script.js", cpus=cpus, memory="1g")
        yield Case(f"java/program-{cpus}", "java", "javac -J-Xshare:auto -d . Hot.java && java -Xmx256m Hot", cpus=cpus, memory="1g", limit=1800)
    for options in ("-Xint", "-XX:TieredStopAtLevel=1", "-XX:-TieredCompilation", "-XX:+UseG1GC", "-XX:+UseParallelGC", "-XX:+UseZGC"):
        name = options.split(":")[-1].strip("-+=")
        yield Case(f"java/{name}", "java", f"javac -d . Hot.java && java -Xmx256m {options} Hot", cpus=2, memory="1g", limit=1800)
    for options in ("--jitless", "--always-opt", "--no-opt", "--stress-compaction"):
        yield Case(f"node/{options.strip('-')}", "node", f"node {options} script.js 20000", cpus=2, memory="1g", limit=1800)
    yield Case("java/version", "java", "java -version 2>&1 && java -Xint -version 2>&1", memory="1g")


def service_cases():
    for cpus in (1, 2):
        for name in ("nginx", "redis", "postgres"):
            yield Case(f"{name}/service-{cpus}", "services", f"sh {name}.sh", cpus=cpus, memory="1g")


def sanity_cases():
    for cpus in (1, 2, 4):
        yield Case(f"sanity/clocks-{cpus}", "python", "python3 sanity.py", cpus=cpus, fast=cpus == 2)


CASES = [*sanity_cases(), *processor_cases(), *tool_cases(), *jit_cases(), *service_cases(), *stress_cases(), *cpython_cases()]
