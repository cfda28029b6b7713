# Digests, ciphers, authentication codes, signatures and primes of openssl, of a fixed file.
set -eu
seq 1 "${1:-12000}" >data
key=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f iv=f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff
for d in md5 sha1 sha224 sha256 sha384 sha512 sha512-224 sha512-256 sha3-224 sha3-256 sha3-384 sha3-512 shake128 shake256 blake2b512 \
  blake2s256 sm3 ripemd160; do
  openssl dgst -"$d" -r data
done
for bits in 128 192 256; do
  for mode in cbc ctr ecb cfb cfb8 ofb; do
    for cipher in aes camellia aria; do
      name=$cipher-$bits-$mode
      [ "$mode" = ecb ] && vector="" || vector="-iv $iv"
      k=$(echo $key | cut -c1-$((bits / 4)))
      openssl enc -"$name" -K "$k" $vector -in data -out secret
      openssl enc -d -"$name" -K "$k" $vector -in secret -out plain
      cmp data plain
      echo "$name $(sha256sum <secret)"
    done
  done
done
openssl enc -chacha20 -K $key -iv $iv -in data | sha256sum
openssl enc -sm4-cbc -K $(echo $key | cut -c1-32) -iv $iv -in data | sha256sum
openssl enc -aes-256-cbc -pbkdf2 -iter 2000 -S 0011223344556677 -k secret -in data | sha256sum
for bits in 128 192 256; do
  k=$(echo $key | cut -c1-$((bits / 4)))
  openssl mac -cipher aes-$bits-gcm -macopt hexkey:"$k" -macopt hexiv:$iv -in data GMAC
  openssl mac -cipher aes-$bits-cbc -macopt hexkey:"$k" -in data CMAC
done
openssl mac -digest sha256 -macopt hexkey:$key -in data HMAC
openssl mac -macopt hexkey:$key -in data Poly1305
openssl mac -macopt hexkey:$key -in data KMAC-256
openssl mac -macopt hexkey:"$(echo $key | cut -c1-32)" -in data SipHash
openssl kdf -keylen 32 -kdfopt pass:secret -kdfopt hexsalt:$iv -kdfopt n:1024 -kdfopt r:8 -kdfopt p:1 SCRYPT
for n in 170141183460469231731687303715884105727 170141183460469231731687303715884105725 2305843009213693951 18446744073709551557; do
  openssl prime $n
done
