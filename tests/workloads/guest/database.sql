PRAGMA journal_mode = WAL;
PRAGMA page_size = 4096;
CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT NOT NULL, price REAL, grp INTEGER, body BLOB);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 8000)
  INSERT INTO item SELECT i, printf('item-%06d', (i * 7919) % 8000), (i * 31 % 1000) / 7.0, i % 37, zeroblob(i % 50) FROM n;
CREATE INDEX item_name ON item(name);
CREATE INDEX item_group ON item(grp, price DESC);
SELECT count(*), sum(price), avg(price), min(name), max(name), total(length(body)) FROM item;
SELECT grp, count(*), round(sum(price), 6) FROM item GROUP BY grp ORDER BY 3 DESC, 1 LIMIT 10;
SELECT a.id, b.id FROM item a JOIN item b ON a.name = b.name AND a.id < b.id ORDER BY 1, 2 LIMIT 5;
SELECT id, price, rank() OVER (PARTITION BY grp ORDER BY price), avg(price) OVER (ORDER BY id ROWS 3 PRECEDING) FROM item WHERE grp = 5 LIMIT 20;
BEGIN;
UPDATE item SET price = price * 1.1, name = name || '-x' WHERE grp % 3 = 0;
DELETE FROM item WHERE id % 11 = 0;
SAVEPOINT a;
DELETE FROM item WHERE grp < 30;
SELECT count(*) FROM item;
ROLLBACK TO a;
COMMIT;
SELECT count(*), sum(price), max(name) FROM item;
CREATE VIRTUAL TABLE text_index USING fts5(words);
INSERT INTO text_index SELECT name || ' word' || (id % 100) || ' other' || (id % 7) FROM item;
SELECT count(*) FROM text_index WHERE text_index MATCH 'word42 AND other3';
SELECT json_extract(json_group_array(json_object('i', id, 'n', name)), '$[17]') FROM item WHERE grp = 7;
SELECT exp(1), ln(10), sqrt(2), sin(1), cos(1), tan(1), atan2(1, 2), pow(2, 0.5), log(2, 10);
SELECT strftime('%Y-%m-%d %H:%M:%f', 2459000.123), julianday('2023-02-28T12:34:56.789'), date('2024-02-29', '+1 year');
WITH RECURSIVE
  x(v) AS (VALUES(-2.0) UNION ALL SELECT v + 0.05 FROM x WHERE v < 1.2),
  y(v) AS (VALUES(-1.0) UNION ALL SELECT v + 0.1 FROM y WHERE v < 1.0),
  m(iter, cx, cy, x, y) AS (
    SELECT 0, x.v, y.v, 0.0, 0.0 FROM x, y
    UNION ALL SELECT iter + 1, cx, cy, x * x - y * y + cx, 2.0 * x * y + cy FROM m WHERE (x * x + y * y) < 4.0 AND iter < 28),
  m2(iter, cx, cy) AS (SELECT max(iter), cx, cy FROM m GROUP BY cx, cy),
  a(t) AS (SELECT group_concat(substr(' .+*#', 1 + min(iter / 7, 4), 1), '') FROM m2 GROUP BY cy)
SELECT group_concat(rtrim(t), x'0a') FROM a;
VACUUM;
PRAGMA integrity_check;
PRAGMA foreign_key_check;
