# A key-value store, its client, its benchmark (small), its files.
set -eu
redis-server --port 6379 --save "" --appendonly yes --dir /workload --daemonize yes --logfile /workload/redis.log >/dev/null
cli() { redis-cli --raw "$@"; }
for try in $(seq 1 600); do [ "$(cli ping 2>/dev/null)" = PONG ] && break; sleep 0.1; done
cli set greeting hello
cli append greeting " world"
cli get greeting
seq 1 500 | sed 's/\(.*\)/RPUSH list item\1/' | redis-cli --pipe >/dev/null
cli lrange list 0 4
cli llen list
cli zadd scores 1.5 a 2.25 b -3e10 c 0.1 d
cli zrange scores 0 -1 withscores
cli zincrby scores 0.2 d
cli incrbyfloat number 3.0e3
cli incrbyfloat number 0.1
cli eval 'local s = 0 for i = 1, 20000 do s = s + i % 7 end return {s, redis.call("get", KEYS[1]), cjson.encode({1, 2.5, "x"}), redis.sha1hex("x")}' 1 greeting
cli setbit bits 100 1
cli bitcount bits
cli pfadd hll $(seq 1 100)
cli pfcount hll
cli geoadd places 13.361389 38.115556 Palermo 15.087269 37.502669 Catania
cli geodist places Palermo Catania km
cli xadd stream 1-1 field value
cli xrange stream - +
redis-benchmark -q -n 500 -c 10 -P 5 -t set,get,incr,lpush,zadd >bench.log 2>&1 && grep -c 'requests per second' bench.log
cli bgrewriteaof >/dev/null
while [ "$(cli info persistence | tr -d '\r' | grep -c '^aof_rewrite_\(in_progress\|scheduled\):1')" != 0 ]; do sleep 0.1; done
cli debug reload 2>/dev/null || true
cli dbsize
cli --no-auth-warning debug digest 2>/dev/null || true
cli shutdown nosave >/dev/null || true
redis-server --port 6379 --save "" --appendonly yes --dir /workload --daemonize yes --logfile /workload/redis.log >/dev/null
for try in $(seq 1 600); do [ "$(cli ping 2>/dev/null)" = PONG ] && break; sleep 0.1; done
cli get greeting
cli llen list
cli shutdown >/dev/null || true
redis-check-aof appendonlydir/appendonly.aof.manifest | grep -c 'valid'
