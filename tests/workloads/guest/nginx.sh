# A web server and its client.
set -eu
mkdir -p www/sub
seq 1 100000 >www/numbers
echo hello >www/sub/index.html
cat >nginx.conf <<'CONF'
worker_processes 2;
pid /workload/nginx.pid;
error_log /workload/error.log;
events { worker_connections 64; }
http {
  access_log /workload/access.log;
  gzip on; gzip_types *; gzip_min_length 100;
  server {
    listen 8080;
    root /workload/www;
    location /gone { return 410 "gone\n"; }
    location /up/ { proxy_pass http://127.0.0.1:8080/; }
  }
}
CONF
chmod 755 . www www/sub
nginx -c /workload/nginx.conf
fetch() { curl -s --retry 20 --retry-connrefused --retry-delay 1 -o "$@"; }
fetch got http://localhost:8080/numbers
cmp got www/numbers && sha256sum got
fetch got --compressed http://localhost:8080/numbers
cmp got www/numbers && echo "gzip ok"
fetch got -r 1000-1999 http://localhost:8080/numbers && sha256sum got
for path in sub/ gone nowhere up/sub/ up/up/numbers; do
  fetch got -w "$path %{http_code} %{size_download}\n" "http://localhost:8080/$path"
  sha256sum <got
done
for n in 1 2 3 4; do fetch "many$n" -w '' "http://127.0.0.1:8080/numbers?[1-10]" & pids="${pids-} $!"; done
for p in $pids; do wait "$p"; done
sha256sum many*
nginx -c /workload/nginx.conf -s quit 2>/dev/null
while [ -e nginx.pid ]; do sleep 0.1; done
wc -l <access.log
grep -o 'open() .* failed ([^)]*)' error.log
