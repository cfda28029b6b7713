# A database server, its client, its benchmark (small), a crash and what is left after it.
set -eu
bin=$(echo /usr/lib/postgresql/*/bin)
chown postgres: .
as() { setpriv --reuid postgres --regid postgres --clear-groups "$@"; }
as "$bin/initdb" -D /workload/db -E UTF8 --locale C -A trust --no-sync >/dev/null
server() { as "$bin/pg_ctl" -D /workload/db -w -t 600 -l /workload/server.log "$@" >/dev/null; }
server -o "-k /workload -c fsync=off" start
sql() { psql -h localhost -U postgres -X -A -q -v ON_ERROR_STOP=1 "$@"; }
sql <<'SQL'
SET timezone = 'UTC';
CREATE TABLE item(id int PRIMARY KEY, name text, price numeric(12, 4), at timestamptz, tags text[], doc jsonb);
INSERT INTO item SELECT i, md5(i::text), i * 1.0001 / 7, timestamptz '2024-01-01' + i * interval '1 hour', ARRAY[i::text, 'x'], jsonb_build_object('i', i, 'h', i % 10) FROM generate_series(1, 5000) i;
CREATE INDEX ON item(name);
CREATE INDEX ON item USING gin(doc);
ANALYZE item;
SELECT count(*), sum(price), avg(price), min(name), max(at), stddev(price) FROM item;
SELECT doc->>'h', count(*), sum(price) FROM item GROUP BY 1 ORDER BY 1;
SELECT id, rank() OVER (ORDER BY name), lag(id) OVER (ORDER BY id) FROM item WHERE id < 2000 ORDER BY 2 LIMIT 5;
SELECT count(*) FROM item WHERE doc @> '{"h": 3}';
SELECT a.id FROM item a JOIN item b ON b.name = md5(a.id::text) WHERE b.id % 997 = 0 ORDER BY 1;
WITH RECURSIVE f(a, b, n) AS (SELECT 0::numeric, 1::numeric, 0 UNION ALL SELECT b, a + b, n + 1 FROM f WHERE n < 200) SELECT max(a) FROM f;
SELECT sqrt(2::numeric), exp(1::numeric), ln(10::float8), power(2::float8, 0.5), sin(1), 1e300 * 1e10 > 1, 'NaN'::float8 = 'NaN';
SELECT regexp_replace('foo bar 123', '(\w+) (\w+)', '\2-\1'), to_tsvector('english', 'the quick foxes jumped') @@ to_tsquery('fox & jump');
DO $$ DECLARE s bigint := 0; BEGIN FOR i IN 1..20000 LOOP s := s + i % 7; END LOOP; RAISE NOTICE 'sum %', s; END $$;
SELECT encode(sha256(string_agg(name, ',' ORDER BY id)::bytea), 'hex') FROM item;
SQL
"$bin/pgbench" -h localhost -U postgres -q -i -s 1 postgres >/dev/null 2>&1
"$bin/pgbench" -h localhost -U postgres -n -c 4 -t 20 postgres 2>/dev/null | grep 'transactions actually'
sql -c 'SELECT count(*), sum(abalance) = (SELECT sum(delta) FROM pgbench_history) FROM pgbench_accounts'
sql -c "INSERT INTO item VALUES (100000, 'last', 1)"
server -m immediate stop
server -o "-k /workload" start
sql -c "SELECT name FROM item WHERE id = 100000" -c "SELECT count(*), sum(hashtext(item::text)::bigint) FROM item" -c "REINDEX DATABASE postgres" -c "VACUUM FULL"
server stop
as "$bin/pg_checksums" -D /workload/db -c 2>&1 | grep -c 'not enabled' || true
