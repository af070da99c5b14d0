PRAGMA application_id=1383294803;
PRAGMA user_version=3;
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0003');
CREATE TABLE alerts (
	"key" VARCHAR NOT NULL,
	severity VARCHAR NOT NULL,
	message TEXT NOT NULL,
	since_us INTEGER NOT NULL,
	sent_us INTEGER NOT NULL,
	count INTEGER NOT NULL,
	PRIMARY KEY ("key")
);
INSERT INTO "alerts" VALUES('disk:low','warning','Only 3 % é',1795316400000000,1795316400000001,2);
INSERT INTO "alerts" VALUES('disk_x','error','full',1795316400000000,1795316400000000,0);
CREATE TABLE audit (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	at_us INTEGER NOT NULL,
	actor VARCHAR NOT NULL,
	role VARCHAR NOT NULL,
	origin VARCHAR NOT NULL,
	action TEXT NOT NULL,
	target TEXT NOT NULL,
	outcome VARCHAR NOT NULL,
	details TEXT NOT NULL,
	previous VARCHAR NOT NULL,
	digest VARCHAR NOT NULL
);
INSERT INTO "audit" VALUES(1,1795348831123456,'token:ci','admin','api','restore','radiology\x00','ok','{"n": 1, "deep": {"x": [1, 2.5, null]}}','0000000000000000000000000000000000000000000000000000000000000000','6794f051ae997fb6d25c1cb0cd17056ef6c72c0c3753c40ef2aea1f195a2655b');
INSERT INTO "audit" VALUES(2,1795348832123456,'root','','cli','backup','größer','refused','{}','6794f051ae997fb6d25c1cb0cd17056ef6c72c0c3753c40ef2aea1f195a2655b','7f8c59ee6065cd6afb7e895c33c4a836143a835b386000aa0d051c55007ac23b');
CREATE TABLE audit_head (
	only INTEGER NOT NULL,
	id INTEGER NOT NULL,
	digest VARCHAR NOT NULL,
	PRIMARY KEY (only)
);
INSERT INTO "audit_head" VALUES(1,2,'7f8c59ee6065cd6afb7e895c33c4a836143a835b386000aa0d051c55007ac23b');
CREATE TABLE channels (
	id VARCHAR NOT NULL,
	label TEXT NOT NULL,
	ok_us INTEGER,
	failed_us INTEGER,
	problem TEXT NOT NULL,
	PRIMARY KEY (id)
);
INSERT INTO "channels" VALUES('c1','mail to a',1795348833123456,1795348834123456,'refused \udce9');
INSERT INTO "channels" VALUES('c2','hook',1795348835123456,NULL,'');
CREATE TABLE drills (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	backup VARCHAR NOT NULL,
	process VARCHAR NOT NULL,
	started_us INTEGER NOT NULL,
	finished_us INTEGER,
	outcome VARCHAR,
	rto_us INTEGER,
	rpo_us INTEGER,
	report TEXT NOT NULL,
	digest VARCHAR NOT NULL,
	scratch TEXT
);
INSERT INTO "drills" VALUES(1,'b1','{"token": "gone", "pid": 1, "start": "x", "boot": "y", "host": "z"}',1795348838123456,1795348839123456,'passed',12345678,500000,'{"rows": 3, "\u00e4": [true]}','abababababababababababababababababababababababababababababababab',NULL);
INSERT INTO "drills" VALUES(2,'b2','{"token": "gone", "pid": 1, "start": "x", "boot": "y", "host": "z"}',1795348840123456,NULL,NULL,NULL,NULL,'{}','','{"database": "scratch2"}');
CREATE TABLE identity (
	id VARCHAR NOT NULL,
	created_us INTEGER NOT NULL,
	PRIMARY KEY (id)
);
INSERT INTO "identity" VALUES('7e91b843e07d4c25a86e54bc3fe115ba',1795348801123456);
CREATE TABLE job_lines (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	job_id INTEGER NOT NULL,
	at_us INTEGER NOT NULL,
	level VARCHAR NOT NULL,
	text TEXT NOT NULL,
	FOREIGN KEY(job_id) REFERENCES jobs (id)
);
INSERT INTO "job_lines" VALUES(1,1,1795348803123456,'INFO','begun — größer');
INSERT INTO "job_lines" VALUES(2,1,1795348804123456,'WARNING','no caf\udce9');
CREATE TABLE "jobs" (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	kind VARCHAR NOT NULL,
	target VARCHAR NOT NULL,
	started_us INTEGER NOT NULL,
	finished_us INTEGER,
	outcome VARCHAR,
	reason TEXT NOT NULL,
	details TEXT NOT NULL,
	process VARCHAR NOT NULL
, begun_us INTEGER, origin VARCHAR DEFAULT 'cli' NOT NULL, actor VARCHAR DEFAULT '' NOT NULL, request TEXT DEFAULT '{}' NOT NULL, phase TEXT DEFAULT '' NOT NULL, done INTEGER DEFAULT '0' NOT NULL, total INTEGER, cancel_us INTEGER, alerted_us INTEGER);
INSERT INTO "jobs" VALUES(1,'backup','radiology',1795348802123456,1795348805123456,'failed','no caf\udce9','{"code": "E", "hint": "\u00fc", "bytes": 12, "part": [1.5, null, true]}','{"token": "gone", "pid": 1, "start": "x", "boot": "y", "host": "z"}',1795348802123456,'cli','räte','{}','dump \udce9',12,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(2,'restore','radiology_backup_20250104_143022',1795348806123456,1795348809123456,'ok','','{"result": {"bytes": 1000, "seconds": 2.5}}','{"token": "gone", "pid": 1, "start": "x", "boot": "y", "host": "z"}',1795348807123456,'api','token:ci','{"name": "x", "check": "full"}','load',1099511627776,2199023255552,1795348808123456,NULL);
INSERT INTO "jobs" VALUES(3,'backup','radiology',1795348810123456,NULL,NULL,'','{}','{"token": "gone", "pid": 1, "start": "x", "boot": "y", "host": "z"}',NULL,'schedule','','{}','',0,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(4,'verify','x',1795348812123456,1795348813123456,'failed','Its process ended without a word: killed, out of memory, or the machine stopped.','{}','{"token": "gone", "pid": 1, "start": "x", "boot": "y", "host": "z"}',1795348812123456,'cli','','{}','',0,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(5,'verify','y',1795348814123456,1795348815123456,'failed','Its process ended without a word: killed, out of memory, or the machine stopped.','{}','{"token": "gone", "pid": 1, "start": "x", "boot": "y", "host": "z"}',1795348814123456,'cli','','{}','',0,NULL,NULL,1795348816123456);
CREATE TABLE pins (
	name VARCHAR NOT NULL,
	pinned_us INTEGER NOT NULL,
	PRIMARY KEY (name)
);
INSERT INTO "pins" VALUES('kept',1795348818123456);
INSERT INTO "pins" VALUES('größer',1795348819123456);
CREATE TABLE restore_steps (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	restore_id VARCHAR NOT NULL,
	step VARCHAR NOT NULL,
	data TEXT NOT NULL,
	at_us INTEGER NOT NULL,
	FOREIGN KEY(restore_id) REFERENCES restores (id)
);
INSERT INTO "restore_steps" VALUES(1,'r1','loaded','{"database": "d"}',1795348821123456);
INSERT INTO "restore_steps" VALUES(2,'r1','swapped','{}',1795348822123456);
INSERT INTO "restore_steps" VALUES(3,'r1','swept','{"n": 1}',1795348824123456);
CREATE TABLE restores (
	id VARCHAR NOT NULL,
	"plan" TEXT NOT NULL,
	process VARCHAR NOT NULL,
	started_us INTEGER NOT NULL,
	ended_us INTEGER,
	outcome VARCHAR,
	PRIMARY KEY (id)
);
INSERT INTO "restores" VALUES('r1','{"targets": ["database"]}','{"token": "gone", "pid": 1, "start": "x", "boot": "y", "host": "z"}',1795348820123456,1795348823123456,'done');
INSERT INTO "restores" VALUES('r2','{"\u00fc": null}','{"token": "gone", "pid": 1, "start": "x", "boot": "y", "host": "z"}',1795348825123456,NULL,NULL);
CREATE TABLE signs (
	name VARCHAR NOT NULL,
	at_us INTEGER NOT NULL,
	data TEXT NOT NULL,
	PRIMARY KEY (name)
);
INSERT INTO "signs" VALUES('loop',1795348836123456,'{}');
INSERT INTO "signs" VALUES('clock_jump',1795348837123456,'{"seconds": -3.5}');
CREATE TABLE slots (
	task VARCHAR NOT NULL,
	slot_us INTEGER NOT NULL,
	claimed_us INTEGER NOT NULL,
	job_id INTEGER,
	PRIMARY KEY (task, slot_us)
);
INSERT INTO "slots" VALUES('backup',1795316400000000,1795348811123456,3);
INSERT INTO "slots" VALUES('backup',1795320000000000,1795348817123456,NULL);
CREATE TABLE tokens (
	id VARCHAR NOT NULL,
	name VARCHAR NOT NULL,
	role VARCHAR NOT NULL,
	digest VARCHAR NOT NULL,
	bootstrap INTEGER NOT NULL,
	created_us INTEGER NOT NULL,
	expires_us INTEGER,
	revoked_us INTEGER,
	used_us INTEGER,
	PRIMARY KEY (id)
);
INSERT INTO "tokens" VALUES('8792533681f0','ci','operator','6e187c61a08f1e2145798152b08c119cdfcaf7f27c1bae8efec429a7042da0cb',0,1795348826123456,4948948826123456,NULL,1795348828123456);
INSERT INTO "tokens" VALUES('d595539d60f3','old','viewer','ac088ce63987d0057ce4b63bcecfb572027fa61ca48b9eab7c8763b02493684d',0,1795348829123456,NULL,1795348830123456,NULL);
CREATE INDEX ix_restore_steps_restore_id ON restore_steps (restore_id);
CREATE INDEX jobs_unfinished ON jobs (id) WHERE outcome IS NULL;
CREATE INDEX jobs_by_kind ON jobs (kind, id);
CREATE INDEX ix_job_lines_job_id ON job_lines (job_id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('jobs',5);
INSERT INTO "sqlite_sequence" VALUES('job_lines',2);
INSERT INTO "sqlite_sequence" VALUES('restore_steps',3);
INSERT INTO "sqlite_sequence" VALUES('audit',2);
INSERT INTO "sqlite_sequence" VALUES('drills',2);
COMMIT;
