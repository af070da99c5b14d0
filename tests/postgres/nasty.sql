CREATE SCHEMA app;
CREATE SCHEMA "o'dd; ""schema""";
SET search_path = app, public;

-- keys that form a cycle, one of them deferred
CREATE TABLE a (id serial PRIMARY KEY, b_id int, v text UNIQUE, raw bytea, at timestamptz DEFAULT now(), span interval);
CREATE TABLE b (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a_id int REFERENCES a DEFERRABLE INITIALLY DEFERRED,
    doubled int GENERATED ALWAYS AS (a_id * 2) STORED, "select" float8);
INSERT INTO a (v, raw, span) SELECT E'\\.\n\\N\t' || i, decode(md5(i::text), 'hex'), i * interval '-1 hour 2 seconds'
    FROM generate_series(1, 3000) i;
INSERT INTO b (a_id, "select") SELECT i, 1.0 / i FROM generate_series(1, 3000) i;
UPDATE a SET b_id = 3001 - id;
ALTER TABLE a ADD FOREIGN KEY (b_id) REFERENCES b ON DELETE SET NULL;
ALTER TABLE a ADD CONSTRAINT same_name FOREIGN KEY (id) REFERENCES a NOT VALID;
ALTER TABLE b ADD CONSTRAINT same_name FOREIGN KEY (a_id) REFERENCES a;
COMMENT ON CONSTRAINT same_name ON a IS 'on a';
COMMENT ON CONSTRAINT same_name ON b IS 'on b; -- Name: x; Type: TABLE; Schema: y; Owner: z';
CREATE INDEX a_lower ON a (lower(v)) WHERE id > 5;
CREATE INDEX a_at ON a (at DESC NULLS LAST) INCLUDE (b_id);
COMMENT ON INDEX a_at IS 'it''s';
ALTER TABLE a CLUSTER ON a_at;
CREATE UNIQUE INDEX b_ident ON b (id);
ALTER TABLE b REPLICA IDENTITY USING INDEX b_ident;
CREATE STATISTICS a_stats (dependencies) ON id, b_id FROM a;
ALTER TABLE a ALTER COLUMN v SET STATISTICS 50, ALTER COLUMN v SET STORAGE EXTERNAL;

-- a check that looks at another table, which psql loads in the alphabet's order
CREATE TABLE z_allowed (id int);
INSERT INTO z_allowed VALUES (1), (2);
CREATE TABLE zz_checked (id int, filler text);
CREATE FUNCTION is_allowed(i int) RETURNS bool LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM app.z_allowed WHERE id = i)';
ALTER TABLE zz_checked ADD CHECK (is_allowed(id));
INSERT INTO zz_checked SELECT 1 + i % 2, repeat('x', 100) FROM generate_series(1, 500) i;

-- names and bodies that look like pg_dump's comments, or like anything but names
CREATE TABLE "we""ird;
-- Name: f; Type: T; Schema: s; Owner: o
\! id;" (id int, "c;ol
\." text);
INSERT INTO "we""ird;
-- Name: f; Type: T; Schema: s; Owner: o
\! id;" VALUES (1, E'a\nb'), (2, E'--\r\n');
CREATE TABLE "o'dd; ""schema"""."t$a$" AS SELECT 1 AS "$$", 'x;''' AS "é"
;
CREATE FUNCTION tricky(x text DEFAULT E'\\'';') RETURNS text LANGUAGE plpgsql AS $body$
BEGIN
    -- $$ ; '
    PERFORM $a$ ; $body $a$;
    RETURN E'\'; \\';
END
--
-- PostgreSQL database dump complete
--
$body$;
CREATE FUNCTION atomic() RETURNS int LANGUAGE sql BEGIN ATOMIC
    SELECT CASE WHEN id > 1 THEN CASE WHEN true THEN 1 END ELSE 2 END AS "end" FROM a;
    SELECT count(*)::int AS "begin" FROM b;
END;
CREATE PROCEDURE proc() LANGUAGE sql BEGIN ATOMIC DELETE FROM b WHERE false; END;

CREATE TABLE nothing ();
INSERT INTO nothing DEFAULT VALUES;
INSERT INTO nothing DEFAULT VALUES;
CREATE TABLE empty (id int);
CREATE UNLOGGED TABLE unlogged AS SELECT 1 AS id;

CREATE DOMAIN positive AS int CHECK (VALUE > 0) NOT NULL;
CREATE TYPE mood AS ENUM ('sad', 'ok;', 'ha''ppy');
CREATE TYPE pair AS (x int, y mood);
CREATE TABLE typed (p positive, m mood[], c pair, r int4range, EXCLUDE USING gist (r WITH &&), j jsonb, money numeric(9,2));
INSERT INTO typed VALUES (1, '{ok;}', '(1,sad)', '[1,2)', '{"a": "\\"}', 'NaN');
CREATE INDEX ON typed USING gin (j);

-- partitions in two levels, with rows in each, indexes attached, keys to and from them
CREATE TABLE part (id int, d date, b_id int, PRIMARY KEY (id, d)) PARTITION BY RANGE (d);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE part_2 (d date NOT NULL, id int NOT NULL, b_id int, extra text) PARTITION BY LIST (id);
ALTER TABLE part_2 DROP COLUMN extra;
CREATE TABLE part_2_1 PARTITION OF part_2 FOR VALUES IN (1, 2, 3);
CREATE TABLE part_2_x PARTITION OF part_2 DEFAULT;
ALTER TABLE part ATTACH PARTITION part_2 FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
INSERT INTO part SELECT i, '2020-01-01'::date + i, i FROM generate_series(1, 700) i;
CREATE INDEX part_b ON part (b_id);
ALTER TABLE part ADD CONSTRAINT part_fk FOREIGN KEY (b_id) REFERENCES b (id);
CREATE TABLE to_part (id int, d date, FOREIGN KEY (id, d) REFERENCES part (id, d));
INSERT INTO to_part SELECT id, d FROM part;

-- inheritance
CREATE TABLE parent (id int CHECK (id > 0), note text DEFAULT 'p');
CREATE TABLE child (more text) INHERITS (parent);
INSERT INTO parent VALUES (1);
INSERT INTO child VALUES (2, 'c', 'm');
CREATE INDEX ON ONLY parent (id);

-- views: one that needs a key, two that form a circle, materialized ones on top of each other in the wrong order
CREATE VIEW grouped AS SELECT a.id, a.v, count(b.id) FROM a LEFT JOIN b ON b.a_id = a.id GROUP BY a.id;
CREATE VIEW circle_1 AS SELECT 1 AS x;
CREATE VIEW circle_2 AS SELECT x FROM circle_1;
CREATE OR REPLACE VIEW circle_1 AS SELECT 2 AS x WHERE EXISTS (SELECT FROM pg_class) OR (SELECT true FROM circle_2 LIMIT 0);
CREATE VIEW ruled AS SELECT * FROM a;
CREATE RULE r AS ON INSERT TO ruled DO INSTEAD (INSERT INTO a (v) VALUES (NEW.v); NOTIFY "x;y";);
CREATE MATERIALIZED VIEW z_first AS SELECT id, v FROM grouped WHERE id < 100;
CREATE UNIQUE INDEX ON z_first (id);
CREATE MATERIALIZED VIEW a_second AS SELECT max(id) AS m, '' || min(v) AS v FROM z_first;
CREATE MATERIALIZED VIEW unfilled AS SELECT 1 AS one WITH NO DATA;

CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.v := NEW.v || ''!''; RETURN NEW; END';
CREATE TRIGGER touch BEFORE INSERT OR UPDATE OF v ON a FOR EACH ROW WHEN (NEW.v <> ';') EXECUTE FUNCTION touched();
ALTER TABLE a DISABLE TRIGGER touch;
CREATE RULE no_delete AS ON DELETE TO b DO INSTEAD NOTHING;
ALTER TABLE typed ENABLE ROW LEVEL SECURITY;
ALTER TABLE typed FORCE ROW LEVEL SECURITY;
CREATE POLICY mine ON typed USING (p > 1) WITH CHECK (p > 0);
CREATE AGGREGATE longest (text) (SFUNC = textcat, STYPE = text, INITCOND = '');
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
CREATE SEQUENCE counter MINVALUE -10 START -5 INCREMENT -1 CYCLE;
SELECT nextval('counter'), nextval('counter');
CREATE SEQUENCE untouched;

SELECT lo_from_bytea(700001, decode(repeat('00ff27', 20000), 'hex')), lo_from_bytea(700002, '');
COMMENT ON LARGE OBJECT 700001 IS 'scan; ''';
COMMENT ON TABLE a IS E'line\n-- Name: fake; Type: ACL; Schema: -; Owner: -\n\\connect postgres';
COMMENT ON SCHEMA app IS 'the; application';
CREATE PUBLICATION a_few FOR TABLE a, b WHERE (id > 5);
GRANT SELECT ON a, part TO PUBLIC;
GRANT UPDATE (v) ON a TO pg_monitor WITH GRANT OPTION;
GRANT SELECT ON LARGE OBJECT 700001 TO PUBLIC;
REVOKE EXECUTE ON FUNCTION atomic() FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO PUBLIC;
RESET search_path;
