-- What nasty.sql lacks of all that pg_dump's plain format can hold; for a superuser, after it. some_role stands for a role.
CREATE SCHEMA every AUTHORIZATION some_role;
CREATE ROLE "some_role's ""é; --
x" IN ROLE some_role;
GRANT USAGE ON SCHEMA every TO "some_role's ""é; --
x" WITH GRANT OPTION;
SET search_path = every, public;

-- languages, access methods, transforms, casts, conversions, collations
CREATE FUNCTION handles() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler';
CREATE FUNCTION handles_do(internal) RETURNS void LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_inline_handler';
CREATE FUNCTION validates(oid) RETURNS void LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_validator';
CREATE TRUSTED LANGUAGE plother HANDLER handles INLINE handles_do VALIDATOR validates;
ALTER LANGUAGE plother OWNER TO some_role;
COMMENT ON LANGUAGE plother IS 'plpgsql by another name';
CREATE FUNCTION other() RETURNS int LANGUAGE plother AS 'BEGIN RETURN 1; END';
CREATE ACCESS METHOD heap_too TYPE TABLE HANDLER heap_tableam_handler;
CREATE ACCESS METHOD gist_too TYPE INDEX HANDLER gisthandler;
CREATE TABLE in_heap_too (id int) USING heap_too;
INSERT INTO in_heap_too SELECT generate_series(1, 10);
CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal), TO SQL WITH FUNCTION int4recv(internal));
CREATE CONVERSION latin_too FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE DEFAULT CONVERSION latin_default FOR 'UTF8' TO 'LATIN2' FROM utf8_to_iso8859;
CREATE COLLATION c_too (LOCALE = 'C');
CREATE TABLE collated (x text COLLATE c_too PRIMARY KEY, y text COLLATE "POSIX");
INSERT INTO collated VALUES ('B', 'a'), ('a', 'B');

-- types: shell, base, composite, enum, range with its multirange, domains over domains, arrays of each
CREATE TYPE only_a_shell;
CREATE TYPE base;
CREATE FUNCTION base_in(cstring) RETURNS base LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION base_out(base) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE base (INPUT = base_in, OUTPUT = base_out, INTERNALLENGTH = VARIABLE, STORAGE = extended, DEFAULT = 'd''; x', CATEGORY = 'X', DELIMITER = ';', COLLATABLE = true);
CREATE CAST (text AS base) WITHOUT FUNCTION AS ASSIGNMENT;
CREATE CAST (base AS text) WITH INOUT AS IMPLICIT;
CREATE FUNCTION base_to_int(base) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT length($1::text)';
CREATE CAST (base AS int) WITH FUNCTION base_to_int(base);
COMMENT ON CAST (base AS int) IS 'its length';
CREATE TYPE everything AS (a base, b text COLLATE c_too, c base[]);
COMMENT ON COLUMN everything.b IS 'of a type';
CREATE TYPE "en;um" AS ENUM ('z', 'a', E'with ''quotes''\nand line', 'é');
ALTER TYPE "en;um" ADD VALUE 'between' BEFORE 'a';
CREATE FUNCTION gap(float8, float8) RETURNS float8 LANGUAGE sql IMMUTABLE AS 'SELECT $2 - $1';
CREATE TYPE span AS RANGE (SUBTYPE = float8, SUBTYPE_DIFF = gap, MULTIRANGE_TYPE_NAME = spans);
CREATE DOMAIN short AS varchar(10) COLLATE c_too DEFAULT 'x;' CONSTRAINT not_long CHECK (length(VALUE) < 9);
CREATE DOMAIN shorter AS short CONSTRAINT less CHECK (length(VALUE) < 5);
ALTER DOMAIN shorter ADD CONSTRAINT any_way CHECK (VALUE <> '') NOT VALID;
COMMENT ON CONSTRAINT less ON DOMAIN shorter IS 'less; so';
CREATE TABLE of_types (b base, e everything, es everything[], u "en;um"[], s span, m spans, d shorter, ds shorter[]);
INSERT INTO of_types VALUES (E'\\x;{"}', ROW('a', 'b', '{x;y}'), ARRAY[ROW('"', '\', NULL)::everything], '{z,between}',
    '[1,2)', '{[1,2),[5,6)}', 'abc', '{a,b}'), (DEFAULT, NULL, '{}', NULL, 'empty', '{}', NULL, NULL);
CREATE TABLE of_composite OF everything (a WITH OPTIONS DEFAULT 'q', CHECK (b <> 'z'));
INSERT INTO of_composite (b) VALUES ('x');

-- operators, with commutators that name each other, classes and families, an aggregate of each kind
CREATE FUNCTION int_text(int, text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 < length($2)';
CREATE FUNCTION text_int(text, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $2 < length($1)';
CREATE OPERATOR <<%% (LEFTARG = int, RIGHTARG = text, FUNCTION = int_text, COMMUTATOR = %%>>, RESTRICT = scalarltsel);
CREATE OPERATOR %%>> (LEFTARG = text, RIGHTARG = int, FUNCTION = text_int, COMMUTATOR = <<%%);
CREATE OPERATOR !!% (RIGHTARG = text, FUNCTION = upper);
COMMENT ON OPERATOR !!% (NONE, text) IS 'prefix';
CREATE FUNCTION reversed(int, int) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'btint4cmp';
CREATE OPERATOR FAMILY ints USING btree;
CREATE OPERATOR CLASS int_too FOR TYPE int USING btree FAMILY ints AS
    OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 reversed(int, int);
ALTER OPERATOR FAMILY ints USING btree ADD OPERATOR 1 < (int, bigint), OPERATOR 3 = (int, bigint),
    FUNCTION 1 (int, bigint) btint48cmp(int, bigint);
CREATE AGGREGATE total (int) (SFUNC = int4pl, STYPE = int, INITCOND = '0', COMBINEFUNC = int4pl, PARALLEL = SAFE,
    MSFUNC = int4pl, MINVFUNC = int4mi, MSTYPE = int, MINITCOND = '0');
CREATE AGGREGATE middle (float8 ORDER BY anyelement) (SFUNC = ordered_set_transition, STYPE = internal,
    FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA);
CREATE FUNCTION windowed() RETURNS bigint LANGUAGE internal WINDOW IMMUTABLE AS 'window_row_number';
CREATE FUNCTION every_clause(IN a int, INOUT b text DEFAULT 'x;', VARIADIC c int[] DEFAULT '{1,2}') RETURNS SETOF text
    LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER LEAKPROOF PARALLEL RESTRICTED COST 7 ROWS 3
    SET search_path = pg_catalog, "o'dd; ""schema""" SET work_mem = '1MB' AS $_$BEGIN b := '$$'; RETURN NEXT; END$_$;
CREATE FUNCTION a_table(n int) RETURNS TABLE (x int, "y;" text) LANGUAGE sql BEGIN ATOMIC
    SELECT i, 'a;' AS "y;" FROM generate_series(1, n) AS i; END;
CREATE FUNCTION to_return() RETURNS int LANGUAGE sql RETURN 1 + 1;
CREATE PROCEDURE worked(INOUT n int) LANGUAGE plpgsql AS 'BEGIN n := n + 1; COMMIT; END';

-- tables: identity, generated, storage, compression, options, keys of every kind, columns dropped, many parents
CREATE TABLE every_column (
    id bigint GENERATED BY DEFAULT AS IDENTITY (START 100 INCREMENT 5 MAXVALUE 100000 CYCLE),
    small smallserial, doubled int GENERATED ALWAYS AS (small * 2) STORED, gone text,
    "with ""quotes"" and
line" text NOT NULL DEFAULT E'\\d\n''', "sixty-three bytes of a name, which is what a server takes; éé" int,
    p text COMPRESSION pglz, bits varbit(9), at timestamp(3) with time zone, ip inet, x xml, v tsvector,
    PRIMARY KEY (id) INCLUDE (small), UNIQUE NULLS NOT DISTINCT (small), CONSTRAINT "c;k" CHECK (small > 0) NO INHERIT)
    WITH (fillfactor = 70, autovacuum_enabled = false, toast.autovacuum_enabled = false);
ALTER TABLE every_column DROP COLUMN gone, ALTER COLUMN p SET (n_distinct = -0.5), ALTER COLUMN p SET STORAGE MAIN, ALTER COLUMN bits SET STATISTICS 7;
ALTER TABLE every_column ADD CONSTRAINT later CHECK (p <> 'no') NOT VALID;
ALTER TABLE every_column REPLICA IDENTITY FULL;
INSERT INTO every_column (p, bits, at, ip, v) SELECT repeat(chr(65 + i), i * 100), B'101', '2020-02-03'::timestamptz
    + i * interval '1 day', '10.0.0.1', to_tsvector('english', 'cats and dogs') FROM generate_series(1, 50) i;
CREATE TABLE mother (m int DEFAULT 1, CHECK (m > 0));
CREATE TABLE father (f text COLLATE "C", m int);
CREATE TABLE heir (own int) INHERITS (mother, father);
ALTER TABLE heir ALTER COLUMN m SET DEFAULT 5, ALTER COLUMN f SET NOT NULL;
ALTER TABLE mother ADD COLUMN late text DEFAULT 'late';
INSERT INTO mother VALUES (1);
INSERT INTO father VALUES ('f', 2);
INSERT INTO heir (f, own) VALUES ('x', 1), ('y', 2);
CREATE TABLE keys (a int, b int, c int4range, PRIMARY KEY (a, b) DEFERRABLE, EXCLUDE USING gist (c WITH &&) WHERE (a > 0));
CREATE UNIQUE INDEX keys_ba ON keys (b, a);
CREATE TABLE refers (a int, b int, mine int, FOREIGN KEY (b, a) REFERENCES keys (b, a) MATCH FULL ON UPDATE CASCADE
    ON DELETE SET DEFAULT (a) DEFERRABLE INITIALLY DEFERRED);
INSERT INTO keys SELECT i, -i, int4range(i, i + 1) FROM generate_series(1, 100) i;
INSERT INTO refers SELECT a, b, 1 FROM keys;
CREATE INDEX ON refers USING hash (mine);
CREATE INDEX refers_brin ON refers USING brin (a) WITH (pages_per_range = 4);
CREATE INDEX refers_too ON refers (b int_too);
CREATE OPERATOR CLASS ranges FOR TYPE int4range USING gist_too AS OPERATOR 3 &&(anyrange, anyrange),
    FUNCTION 1 range_gist_consistent(internal, anyrange, smallint, oid, internal), FUNCTION 2 range_gist_union(internal, internal),
    FUNCTION 5 range_gist_penalty(internal, internal, internal), FUNCTION 6 range_gist_picksplit(internal, internal),
    FUNCTION 7 range_gist_same(anyrange, anyrange, internal);
CREATE INDEX by_gist_too ON keys USING gist_too (c ranges);
CREATE INDEX ON every_column USING gin (v) WITH (fastupdate = off);
CREATE INDEX ON every_column (p COLLATE "C" text_pattern_ops, (length(p)) DESC) WHERE p IS NOT NULL;
ALTER INDEX every_column_p_length_idx ALTER COLUMN 2 SET STATISTICS 9;
CREATE STATISTICS of_expressions ON (length(p)), (small % 2) FROM every_column;
ALTER STATISTICS of_expressions SET STATISTICS 33;
COMMENT ON STATISTICS of_expressions IS 'it''s';

-- partitions: hash, list with null, default, attached indexes and constraints, triggers that are cloned
CREATE TABLE hashed (id int NOT NULL, k text, UNIQUE (id)) PARTITION BY HASH (id);
CREATE TABLE hashed_0 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1) WITH (fillfactor = 50);
INSERT INTO hashed SELECT i, i::text FROM generate_series(1, 300) i;
CREATE TABLE listed (k "en;um", n int DEFAULT 3) PARTITION BY LIST (k);
CREATE TABLE listed_null PARTITION OF listed FOR VALUES IN (NULL, 'z');
CREATE TABLE listed_rest PARTITION OF listed (n DEFAULT 4) DEFAULT;
INSERT INTO listed (k) VALUES (NULL), ('z'), ('a');
CREATE INDEX listed_n ON ONLY listed (n);
CREATE INDEX listed_null_n ON listed_null (n);
ALTER INDEX listed_n ATTACH PARTITION listed_null_n;
CREATE TABLE expressed (x float8, y float8) PARTITION BY RANGE ((x + y), y);
CREATE TABLE expressed_1 PARTITION OF expressed FOR VALUES FROM (MINVALUE, MINVALUE) TO (0, 0) PARTITION BY RANGE (x);
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER cloned AFTER UPDATE ON hashed FOR EACH ROW EXECUTE FUNCTION noted('an arg', E'o\\ther;');
ALTER TABLE hashed_1 DISABLE TRIGGER cloned;
CREATE TRIGGER by_statement AFTER INSERT ON refers REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION noted();
CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON refers FROM keys DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION noted();
CREATE TRIGGER truncated BEFORE TRUNCATE ON refers EXECUTE FUNCTION noted();
ALTER TABLE refers ENABLE ALWAYS TRIGGER truncated, ENABLE REPLICA TRIGGER deferred;
COMMENT ON TRIGGER truncated ON refers IS 'tr; unc';

-- views, rules, policies
CREATE VIEW checked WITH (security_barrier, security_invoker) AS SELECT * FROM mother WHERE m > 0 WITH CASCADED CHECK OPTION;
ALTER VIEW checked ALTER COLUMN m SET DEFAULT 7;
COMMENT ON COLUMN checked.m IS 'of a view';
CREATE RECURSIVE VIEW counted (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM counted WHERE n < 3;
CREATE TRIGGER instead INSTEAD OF INSERT ON counted FOR EACH ROW EXECUTE FUNCTION noted();
CREATE VIEW made_by_key AS SELECT id, small, p FROM every_column GROUP BY id;
CREATE RULE also AS ON UPDATE TO keys WHERE OLD.a <> NEW.a DO ALSO INSERT INTO refers VALUES (NULL, NULL, 0);
ALTER TABLE keys DISABLE RULE also;
CREATE MATERIALIZED VIEW mat_z AS SELECT x, y FROM collated ORDER BY x;
CREATE MATERIALIZED VIEW mat_a USING heap_too WITH (fillfactor = 90) AS SELECT max(x) AS x FROM mat_z;
CREATE MATERIALIZED VIEW mat_never AS SELECT a FROM keys WITH NO DATA;
CREATE INDEX mat_never_a ON mat_never (a);
CREATE INDEX mat_z_x ON mat_z (x);
ALTER MATERIALIZED VIEW mat_z CLUSTER ON mat_z_x;
COMMENT ON MATERIALIZED VIEW mat_z IS 'ma;t';
ALTER TABLE refers ENABLE ROW LEVEL SECURITY;
CREATE POLICY "p;1" ON refers AS RESTRICTIVE FOR UPDATE TO some_role, "some_role's ""é; --
x", CURRENT_USER USING (mine = 1) WITH CHECK (mine IN (SELECT a FROM keys));
CREATE POLICY p2 ON refers FOR INSERT TO PUBLIC WITH CHECK (true);
COMMENT ON POLICY p2 ON refers IS 'po;l';

-- sequences, text search, foreign data, publications, large objects
CREATE SEQUENCE tiny AS smallint CACHE 5 OWNED BY mother.m;
CREATE UNLOGGED SEQUENCE forgetful START 3;
SELECT setval('tiny', 77, false);
CREATE TEXT SEARCH PARSER parser_too (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end, LEXTYPES = prsd_lextype, HEADLINE = prsd_headline);
CREATE TEXT SEARCH TEMPLATE template_too (INIT = dsimple_init, LEXIZE = dsimple_lexize);
CREATE TEXT SEARCH DICTIONARY dict_too (TEMPLATE = template_too, ACCEPT = 'false');
CREATE TEXT SEARCH CONFIGURATION config_too (PARSER = parser_too);
ALTER TEXT SEARCH CONFIGURATION config_too ADD MAPPING FOR asciiword, word WITH dict_too, simple;
COMMENT ON TEXT SEARCH CONFIGURATION config_too IS 'co;nf';
CREATE FOREIGN DATA WRAPPER wrapper OPTIONS (debug 'it''s; "so"');
CREATE SERVER "far; server" TYPE 't' VERSION '1' FOREIGN DATA WRAPPER wrapper OPTIONS (host 'h''');
CREATE USER MAPPING FOR some_role SERVER "far; server" OPTIONS (user 'u', password 'p''; x');
CREATE USER MAPPING FOR PUBLIC SERVER "far; server";
CREATE FOREIGN TABLE abroad (id int OPTIONS (n 'a;') NOT NULL, x text DEFAULT 'd', CHECK (id > 0)) SERVER "far; server" OPTIONS (t 'z');
CREATE FOREIGN TABLE hashed_abroad PARTITION OF listed FOR VALUES IN ('between') SERVER "far; server";
GRANT USAGE ON FOREIGN SERVER "far; server" TO some_role;
GRANT USAGE ON FOREIGN DATA WRAPPER wrapper TO some_role WITH GRANT OPTION;
CREATE PUBLICATION by_schema FOR TABLES IN SCHEMA every WITH (publish = 'insert, delete');
CREATE PUBLICATION by_columns FOR TABLE every_column (id, p) WHERE (small > 2), ONLY mother WITH (publish_via_partition_root = true);
CREATE PUBLICATION of_nothing;
COMMENT ON PUBLICATION of_nothing IS 'no; thing';
SELECT lo_from_bytea(800000 + i, decode(md5(i::text), 'hex')) FROM generate_series(1, 200) i;
ALTER LARGE OBJECT 800001 OWNER TO some_role;
GRANT SELECT, UPDATE ON LARGE OBJECT 800002 TO some_role WITH GRANT OPTION;

-- owners and rights on each kind of object
ALTER TABLE keys OWNER TO some_role;
ALTER TYPE "en;um" OWNER TO some_role;
ALTER FUNCTION every_clause OWNER TO some_role;
GRANT SELECT (id), INSERT (p), REFERENCES (id) ON every_column TO some_role;
GRANT ALL ON mother TO some_role;
REVOKE TRUNCATE ON mother FROM some_role;
GRANT USAGE ON SEQUENCE tiny TO some_role;
GRANT EXECUTE ON PROCEDURE worked TO some_role;
REVOKE ALL ON FUNCTION to_return FROM PUBLIC;
GRANT USAGE ON LANGUAGE plother TO some_role;
REVOKE USAGE ON TYPE span FROM PUBLIC;
GRANT USAGE ON DOMAIN short TO some_role;
GRANT USAGE ON SCHEMA every TO some_role;
SET SESSION AUTHORIZATION some_role;
GRANT SELECT ON every.keys TO PUBLIC;
GRANT SELECT (a) ON every.keys TO "some_role's ""é; --
x" WITH GRANT OPTION;
SET SESSION AUTHORIZATION "some_role's ""é; --
x";
GRANT SELECT (a) ON every.keys TO pg_monitor;
RESET SESSION AUTHORIZATION;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT CREATE ON SCHEMA public TO some_role;
GRANT SELECT ON pg_catalog.pg_authid TO some_role;
REVOKE EXECUTE ON FUNCTION pg_catalog.pg_sleep(float8) FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE some_role REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE some_role IN SCHEMA every GRANT USAGE ON SEQUENCES TO "some_role's ""é; --
x" WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC;
COMMENT ON SCHEMA public IS NULL;
CREATE FUNCTION hears() RETURNS event_trigger LANGUAGE plpgsql AS
    'BEGIN IF pg_event_trigger_table_rewrite_reason() < 0 THEN RAISE ''never''; END IF; END';
CREATE EVENT TRIGGER rewrites ON table_rewrite EXECUTE FUNCTION hears();
ALTER EVENT TRIGGER rewrites ENABLE REPLICA;
ALTER EVENT TRIGGER rewrites OWNER TO CURRENT_USER;
COMMENT ON EVENT TRIGGER rewrites IS 'ev;ent';
RESET search_path;
