#!/usr/bin/env python3
"""check_handlers: whether the compiler made of the handlers what they have to be.

usage: check_handlers.py OBJDUMP OBJECT...

A handler is a function (Cpu&, Uop const*, Ahead) of sm::soft::fast. It must have no frame and call nothing (but for
those that are worth one), and must end by jumping to the next handler. Exit status 1 and one line for each that does not.
"""

import re
import subprocess
import sys

HANDLER = re.compile(r"^[0-9a-f]+ <(sm::soft::(?:Uop const\* sm::soft::)?fast::.*(?<!\(\*\))\(sm::soft::Cpu&, sm::soft::Uop const\*, sm::soft::Ahead\).*)>:$")
FUNCTION = re.compile(r"^[0-9a-f]+ <.*>:$")
# Slow cases, which may do what they like; and work that is worth a frame, but not one that stays.
SLOW = ("slow.cc.o", "run.cc.o")
WITH_FRAMES = ("string.cc.o",)
FRAME = [
    (re.compile(r"\t(push|pop|enter|leave)\b"), "saves registers"),
    (re.compile(r"\t(sub|add|lea|and)\b.*%rsp$"), "has a frame"),
    (re.compile(r"\tcall"), "calls"),
]
RETURN = [(re.compile(r"\tret"), "returns")]
# To where a uop says, in a register or in memory; not to a function by the address table.
NEXT = re.compile(r"\tjmp +\*(%r|\(%r|0x[0-9a-f]+\(%r(?!ip))")


def faults(body, forbidden):
    found = [why for pattern, why in forbidden if any(pattern.search(line) for line in body)]
    if not any(NEXT.search(line) for line in body):
        found.append("does not jump to the next handler")
    return found


def main():
    objdump, *objects = sys.argv[1:]
    handlers = bad = 0
    for path in objects:
        if path.endswith(SLOW):
            continue
        forbidden = RETURN if path.endswith(WITH_FRAMES) else FRAME + RETURN
        text = subprocess.run([objdump, "-d", "-C", "--no-show-raw-insn", path], check=True, capture_output=True, text=True).stdout
        name, body = None, []
        for line in text.splitlines() + ["0 <end>:"]:
            if not FUNCTION.match(line):
                body.append(line)
                continue
            if name is not None:
                handlers += 1
                for why in faults(body, forbidden):
                    bad += 1
                    print(f"{name}: {why}")
            found = HANDLER.match(line)
            name, body = found and found.group(1), []
    print(f"{handlers} handlers, {bad} faults")
    # Hundreds are expected: none at all would mean that their names have changed.
    return 1 if bad or handlers < 500 else 0


if __name__ == "__main__":
    sys.exit(main())
