# Keys, signatures and TLS of openssl. Keys are random, so what is compared is that everything verifies.
set -eu
seq 1 20000 >data
tail -n +2 data >other
check() { # NAME KEY-ALGORITHM GENPKEY-OPTION...
  name=$1
  shift
  openssl genpkey -quiet -algorithm "$@" -out key
  openssl pkey -in key -pubout -out public
  case $name in
    ed*)
      openssl pkeyutl -sign -inkey key -rawin -in data -out signature
      openssl pkeyutl -verify -pubin -inkey public -rawin -in data -sigfile signature
      openssl pkeyutl -verify -pubin -inkey public -rawin -in other -sigfile signature || true
      ;;
    *)
      openssl dgst -sha256 -sign key -out signature data
      openssl dgst -sha256 -verify public -signature signature data
      openssl dgst -sha256 -verify public -signature signature other || true
      ;;
  esac
  echo "$name done"
}
check rsa RSA -pkeyopt rsa_keygen_bits:2048
for curve in P-256 P-384 P-521 secp256k1 brainpoolP256r1; do check "ec-$curve" EC -pkeyopt ec_paramgen_curve:$curve; done
check ed25519 ED25519
check ed448 ED448
for n in 1 2; do
  openssl genpkey -quiet -algorithm X25519 -out key$n
  openssl pkey -in key$n -pubout -out public$n
done
openssl pkeyutl -derive -inkey key1 -peerkey public2 -out shared1
openssl pkeyutl -derive -inkey key2 -peerkey public1 -out shared2
cmp shared1 shared2 && echo "x25519 done"

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key -out server.crt -subj /CN=localhost -days 10000 2>/dev/null
for suite in TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256; do
  openssl s_server -quiet -accept 4433 -cert server.crt -key server.key -ciphersuites $suite -HTTP >/dev/null 2>&1 &
  server=$!
  for try in $(seq 1 600); do
    printf 'GET /data HTTP/1.0\r\n\r\n' |
      openssl s_client -quiet -verify_return_error -CAfile server.crt -connect 127.0.0.1:4433 -servername localhost >answer 2>/dev/null && break
    sleep 0.1
  done
  kill $server
  wait $server || true
  echo "$suite $(sed '1,/^\r*$/d' answer | sha256sum)"
done
