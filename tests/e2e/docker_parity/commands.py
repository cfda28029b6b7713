"""The everyday commands of a user of Docker, in an order in which they build on each other: (what, words, how the outcomes are compared).

`{image}` is an image in a registry, `{copy}` a name of the program's own there, `{other}` that of the other program, `{file}` and
`{other_file}` the same for an archive; `{nowhere}` is not there. Comparisons, in docker_parity_test.py: `same` status, output and errors of the
command; `status` the status alone; `success` done or not (Docker and podman differ in how they fail); `ids` of images; `inspect`, `history` the
fields that everybody uses; `terminal` on a terminal."""

SHOW = ["sh", "-c", "echo $(id -u):$(id -g) $PWD $A $HOME; cat"]

COMMANDS = [
    ("pull", ["pull", "-q", "{image}"], "success"),
    ("its id", ["images", "-q", "--no-trunc", "{image}"], "ids"),
    ("the image's own command", ["run", "--rm", "{image}"], "same"),
    ("a command with arguments", ["run", "--rm", "{image}", "printf", "%s|", "a b", "", "*"], "same"),
    ("variables, folder and user", ["run", "--rm", "-e", "A=1 2", "-w", "/tmp", "-u", "user", "{image}", *SHOW], "same"),
    ("an entrypoint", ["run", "--rm", "--entrypoint", "/bin/echo", "{image}", "x"], "same"),
    ("a status", ["run", "--rm", "{image}", "sh", "-c", "echo err >&2; exit 42"], "same"),
    ("no such program", ["run", "--rm", "{image}", "no-such-program"], "status"),
    ("not executable", ["run", "--rm", "{image}", "/etc/passwd"], "status"),
    ("standard input", ["run", "--rm", "-i", "{image}", "sh", "-c", "tr a-z A-Z; echo end"], "same"),
    ("a terminal", ["run", "--rm", "-it", "{image}", "sh", "-c", "test -t 0 && test -t 1 && test -t 2 && echo terminal; stty size; exit 3"], "terminal"),
    ("limits and a closed root", ["run", "--rm", "--read-only", "--tmpfs", "/srv", "--cap-drop", "ALL", "{image}", "sh", "-c",
                                  "touch /x; touch /srv/x && ls /srv; grep CapEff /proc/self/status"], "same"),
    ("inspect", ["inspect", "{image}"], "inspect"),
    ("history", ["history", "--format", "json", "{image}"], "history"),
    ("a further name", ["tag", "{image}", "{copy}"], "success"),
    ("both names, one id", ["images", "-q", "--no-trunc", "{copy}"], "ids"),
    ("push", ["push", "-q", "{copy}"], "success"),
    ("pull what the other has pushed", ["pull", "-q", "{other}"], "success"),
    ("and run it", ["run", "--rm", "{other}", "echo", "pushed"], "same"),
    ("save", ["save", "-o", "{file}", "{image}"], "success"),
    ("remove all names", ["rmi", "{image}", "{copy}", "{other}"], "success"),
    ("nothing is left", ["images", "-q"], "ids"),
    ("nothing to run", ["run", "--rm", "--pull", "never", "{image}", "true"], "status"),
    ("load what the other has saved", ["load", "-i", "{other_file}"], "success"),
    ("it is the same image", ["images", "-q", "--no-trunc", "{image}"], "ids"),
    ("and it runs", ["run", "--rm", "--pull", "never", "{image}", "echo", "loaded"], "same"),
    ("a name that the registry does not have", ["pull", "-q", "{nowhere}"], "success"),
    ("run it all the same", ["run", "--rm", "{nowhere}", "true"], "status"),
    ("remove what is not there", ["rmi", "{nowhere}"], "success"),
    ("inspect what is not there", ["inspect", "{nowhere}"], "success"),
    ("an option that there is not", ["run", "--no-such-option", "{image}"], "status"),
]
