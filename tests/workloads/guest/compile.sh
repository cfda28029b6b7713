# The bytes that gcc makes, and what they compute. Floating point is the processor's own: no contraction, no -march=native.
set -eu
for flags in -O0 -O1 -O2 -Os "-O3 -funroll-loops" "-O2 -mfpmath=387" "-O3 -mssse3 -msse4.2" "-O2 -g -fsanitize=undefined"; do
  gcc $flags -ffp-contract=off -fno-builtin-sin -c program.c -o program.o
  gcc $flags program.o -o program -lm -pthread
  echo "gcc $flags: $(sha256sum <program.o)"
  ./program
done
gcc -O2 -S program.c -o - | sha256sum
