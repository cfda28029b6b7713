# awk, sed, sort and friends.
set -eu
seq 1 6000 | awk '{ printf "%d %x %s\n", $1 * 7919 % 20011, $1 * 104729, substr("abcdefghijklmnopqrstuvwxyz", $1 % 20 + 1, 5) }' >data
for awk in gawk mawk; do
  $awk '{ n[$3] += $1; s += $1 * 0.1; if (match($2, /[0-9a-f]+f[0-9]/)) m++ }
    END { for (k in n) print k, n[k] | "sort"; close("sort"); printf "%.10f %d %s\n", s, m, toupper(substr("xyz", 2)) }' data
  $awk 'BEGIN { for (i = 1; i < 200; i++) { x = x + sin(i) * exp(-i / 50) + log(i) ^ 2 + atan2(i, 3); y = int(y * 31 + i) % 65521 } printf "%.12g %d\n", x, y }'
  $awk '{ a[NR % 1000] = a[NR % 1000] $2 } END { for (i = 0; i < 1000; i++) t += length(a[i]); print t }' data
done
sort -n data | sha256sum
sort -k3,3 -k1,1nr data | sha256sum
sort -R --random-source=data data | sort | uniq -c | sort -rn | head -3
sort --parallel=2 -S 1M -r data | sha256sum
sed -E 's/([a-z]+)$/<\1>/; s/^([0-9]+) (.*)/\2 \1/; /<abc/d; y/abc/xyz/' data | sha256sum
sed -n '$!{h;d}; H; x; p' data | wc
grep -cE '^[0-9]*7 .*(ab|yz)' data
grep -oP '\b(?=\w*9)\w{4,6}\b' data | sha256sum
tr a-z n-za-m <data | rev | tac | cut -c3-9 | paste - - | join -j 9 - /dev/null | wc
split -l 777 -d data part. && cat part.* | cmp - data
md5sum part.* | sha1sum
factor 18446744073709551557 600851475143
od -A d -t fD -t x4 -N 160 data
cksum data
base64 data | base64 -d | cmp - data
command -v bc >/dev/null && echo 'scale=80; 4*a(1); e(1); sqrt(2); s(1); 2^500 % 997; l(10)' | bc -l
find /usr/lib -xdev -type f -name '*.so*' -printf '%s %P\n' | sort -k2 | sha256sum
