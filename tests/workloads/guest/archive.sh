# Compressors there and back; text tools; git.
set -eu
seq 1 15000 | awk '{ printf "%d %x %s\n", $1, $1 * 7919, substr("the quick brown fox", $1 % 15 + 1) }' >data
head -c 100000 /dev/zero >>data
sha256sum data
for c in "gzip -1 -n" "gzip -9 -n" "bzip2 -9" "xz -1" "xz -6 --check=crc32" "xz -3 --check=sha256" "zstd -1 -T1" "zstd -12 -T1" "zstd -19 -T1 --long"; do
  command -v "${c%% *}" >/dev/null || continue
  $c -c data >packed 2>/dev/null
  ${c%% *} -dc packed 2>/dev/null | cmp - data
  echo "$c $(sha256sum <packed)"
done
