PRAGMA application_id=1383294787;
PRAGMA user_version=2;
BEGIN TRANSACTION;
CREATE TABLE copies (
	name VARCHAR NOT NULL,
	location VARCHAR NOT NULL,
	size INTEGER NOT NULL,
	mtime_ns INTEGER NOT NULL,
	inode INTEGER NOT NULL,
	condition VARCHAR NOT NULL,
	problem TEXT NOT NULL,
	sequence INTEGER NOT NULL,
	taken_us INTEGER NOT NULL,
	database_size INTEGER,
	form VARCHAR NOT NULL,
	PRIMARY KEY (name, location)
)
 WITHOUT ROWID

;
INSERT INTO "copies" VALUES('a','local',10,1000000000000000001,1099511627776,'good','',7,1736001022123456,5,'');
INSERT INTO "copies" VALUES('b','local',10,1000000000000000001,1099511627776,'damaged','no caf\udce9',0,1000000000000000,NULL,'');
INSERT INTO "copies" VALUES('b','remote',11,3,0,'good','',7,1736001022123456,5,'');
INSERT INTO "copies" VALUES('größer','local',10,1000000000000000001,1099511627776,'foreign','',0,1736173822000000,NULL,'');
INSERT INTO "copies" VALUES('r_backup_20250105_143022','local',10,1000000000000000001,1099511627776,'sealed','',0,1736087422000000,NULL,'age');
CREATE TABLE descriptions (
	name VARCHAR NOT NULL,
	location VARCHAR NOT NULL,
	metadata TEXT NOT NULL,
	PRIMARY KEY (name, location)
);
INSERT INTO "descriptions" VALUES('a','local','{"sequence": 7, "datetime_utc": "2025-01-04T14:30:22.123456+00:00", "database": {"size_bytes": 5}, "\u00fc": [null, 1.5]}');
INSERT INTO "descriptions" VALUES('größer','local','{"datetime": "2025-01-06T14:30:22"}');
INSERT INTO "descriptions" VALUES('b','remote','{"sequence": 7, "datetime_utc": "2025-01-04T14:30:22.123456+00:00", "database": {"size_bytes": 5}, "\u00fc": [null, 1.5]}');
COMMIT;
