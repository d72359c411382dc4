-- Datasets with many parents, reports of scans, copies of our own, an index of rows, and an end.
--
-- dataset_versions is made anew: a column cannot lose its constraint, and UNIQUE (dataset, sha256) has to let data in again
-- that was deleted. seq counts versions in the order in which they came: rows are never removed, so the next one is always larger.
CREATE TABLE dataset_versions_new (
	seq        INTEGER PRIMARY KEY,
	id         TEXT NOT NULL UNIQUE,
	tenant     TEXT NOT NULL,
	dataset    TEXT NOT NULL,
	number     INTEGER NOT NULL CHECK (number > 0),
	kind       TEXT NOT NULL,
	columns    TEXT NOT NULL,                     -- JSON
	rows       INTEGER NOT NULL,
	bytes      INTEGER NOT NULL,
	sha256     TEXT NOT NULL,
	artifact   TEXT NOT NULL,
	license    TEXT NOT NULL,
	pii        TEXT NOT NULL CHECK (pii IN ('not_scanned', 'scanning', 'clean', 'findings', 'redacted', 'waived')),
	looked     TEXT NOT NULL DEFAULT '',          -- JSON of forge.RowsSeen
	created_by TEXT NOT NULL,
	created_at INTEGER NOT NULL,
	description TEXT NOT NULL DEFAULT '',
	layout      TEXT NOT NULL DEFAULT '',         -- JSON of forge.DatasetLayout
	copy_dir    TEXT NOT NULL DEFAULT '',         -- where forge's own copy is; '': the data is referenced in place
	indexed     INTEGER NOT NULL DEFAULT 0 CHECK (indexed IN (0, 1)),
	waived_by     TEXT NOT NULL DEFAULT '',
	waived_reason TEXT NOT NULL DEFAULT '',
	waived_at     INTEGER NOT NULL DEFAULT 0,
	deleted_at INTEGER NOT NULL DEFAULT 0,
	purging_at INTEGER NOT NULL DEFAULT 0,        -- written before the first byte goes; whoever finds it alone goes on
	purged_at  INTEGER NOT NULL DEFAULT 0,
	UNIQUE (dataset, number),
	UNIQUE (tenant, id),
	UNIQUE (tenant, seq),
	CHECK ((pii = 'waived') = (waived_at <> 0 AND waived_by <> '' AND waived_reason <> '')),
	CHECK (purging_at = 0 OR deleted_at <> 0 AND copy_dir <> ''),
	CHECK (purged_at = 0 OR purging_at <> 0),
	FOREIGN KEY (tenant, dataset) REFERENCES datasets (tenant, id),
	FOREIGN KEY (tenant, artifact) REFERENCES artifacts (tenant, id)
) STRICT;
-- Nothing was ever waived before; should a row say so all the same, the database must still open.
INSERT INTO dataset_versions_new (id, tenant, dataset, number, kind, columns, rows, bytes, sha256, artifact, license, pii, looked, created_by, created_at, waived_by, waived_reason, waived_at)
	SELECT id, tenant, dataset, number, kind, columns, rows, bytes, sha256, artifact, license, pii, looked, created_by, created_at,
		iif(pii = 'waived', 'unknown', ''), iif(pii = 'waived', 'before reasons were kept', ''), iif(pii = 'waived', created_at, 0)
	FROM dataset_versions ORDER BY rowid; -- as they came, whatever clocks said

-- What a version was made from. No cycle can be: a parent came before its child.
CREATE TABLE dataset_parents (
	child  INTEGER NOT NULL,
	parent INTEGER NOT NULL,
	tenant TEXT NOT NULL,
	PRIMARY KEY (child, parent),
	CHECK (parent < child),
	FOREIGN KEY (tenant, child) REFERENCES dataset_versions_new (tenant, seq),
	FOREIGN KEY (tenant, parent) REFERENCES dataset_versions_new (tenant, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO dataset_parents (child, parent, tenant)
	SELECT c.seq, p.seq, c.tenant FROM dataset_versions AS v
	JOIN dataset_versions_new AS c ON c.id = v.id JOIN dataset_versions_new AS p ON p.id = v.parent
	WHERE v.parent IS NOT NULL;
CREATE TRIGGER dataset_parents_immutable BEFORE UPDATE ON dataset_parents
BEGIN SELECT RAISE(ABORT, 'lineage never changes'); END;
CREATE TRIGGER dataset_parents_stay BEFORE DELETE ON dataset_parents
BEGIN SELECT RAISE(ABORT, 'lineage never changes'); END;

DROP TABLE dataset_versions;
ALTER TABLE dataset_versions_new RENAME TO dataset_versions;
-- The same data is one version, unless that was deleted.
CREATE UNIQUE INDEX dataset_versions_one_of_content ON dataset_versions (dataset, sha256) WHERE deleted_at = 0;
CREATE INDEX dataset_versions_purging ON dataset_versions (seq) WHERE purging_at <> 0 AND purged_at = 0;
CREATE INDEX dataset_versions_copies ON dataset_versions (copy_dir) WHERE copy_dir <> '';
CREATE TRIGGER dataset_versions_immutable
BEFORE UPDATE OF seq, id, tenant, dataset, number, kind, columns, rows, bytes, sha256, artifact, looked, layout, copy_dir, created_by, created_at ON dataset_versions
BEGIN SELECT RAISE(ABORT, 'dataset versions never change'); END;
CREATE TRIGGER dataset_versions_stay BEFORE DELETE ON dataset_versions
BEGIN SELECT RAISE(ABORT, 'dataset versions are marked as deleted, and stay'); END;
CREATE TRIGGER dataset_versions_waiver_is_final BEFORE UPDATE OF waived_by, waived_reason, waived_at ON dataset_versions
WHEN OLD.waived_at <> 0
BEGIN SELECT RAISE(ABORT, 'a waiver stands for ever'); END;
CREATE TRIGGER dataset_versions_end_is_final BEFORE UPDATE OF deleted_at, purging_at, purged_at ON dataset_versions
WHEN OLD.deleted_at <> 0 AND NEW.deleted_at <> OLD.deleted_at OR OLD.purging_at <> 0 AND NEW.purging_at <> OLD.purging_at OR OLD.purged_at <> 0 AND NEW.purged_at <> OLD.purged_at
BEGIN SELECT RAISE(ABORT, 'what is deleted stays so'); END;

-- How the PII status may move. redacted is given at birth: by redaction another version comes to be.
CREATE TABLE pii_moves (
	was  TEXT NOT NULL,
	becomes TEXT NOT NULL,
	PRIMARY KEY (was, becomes)
) STRICT, WITHOUT ROWID;
INSERT INTO pii_moves (was, becomes) VALUES
	('not_scanned', 'scanning'), ('not_scanned', 'clean'), ('not_scanned', 'findings'),
	('scanning', 'not_scanned'), ('scanning', 'clean'), ('scanning', 'findings'),
	('clean', 'findings'), -- newer rules see more
	('findings', 'waived');
CREATE TRIGGER dataset_versions_pii_moves BEFORE UPDATE OF pii ON dataset_versions
WHEN NEW.pii <> OLD.pii AND NOT EXISTS (SELECT 1 FROM pii_moves WHERE was = OLD.pii AND becomes = NEW.pii)
BEGIN SELECT RAISE(ABORT, 'the PII status does not move so'); END;

-- What the pass over the data found. It lies apart because listings do not show it.
CREATE TABLE dataset_scans (
	version INTEGER PRIMARY KEY REFERENCES dataset_versions (seq),
	report  TEXT NOT NULL -- JSON of forge.ScanReport
) STRICT;

-- Fingerprints of rows: the first 8 bytes of each row's digest, ascending over the parts, many to a part.
CREATE TABLE dataset_rows (
	version INTEGER NOT NULL REFERENCES dataset_versions (seq),
	part    INTEGER NOT NULL,
	first   BLOB NOT NULL CHECK (length(first) = 8),
	prints  BLOB NOT NULL CHECK (length(prints) > 0 AND length(prints) % 8 = 0),
	UNIQUE (version, part)
) STRICT;
CREATE INDEX dataset_rows_by_first ON dataset_rows (version, first, part);
CREATE TRIGGER dataset_rows_stay BEFORE DELETE ON dataset_rows
WHEN (SELECT indexed FROM dataset_versions WHERE seq = OLD.version)
BEGIN SELECT RAISE(ABORT, 'the index of a version''s rows never changes'); END;
CREATE TRIGGER dataset_rows_whole BEFORE INSERT ON dataset_rows
WHEN (SELECT indexed FROM dataset_versions WHERE seq = NEW.version)
BEGIN SELECT RAISE(ABORT, 'the index of a version''s rows never changes'); END;

CREATE INDEX runs_by_dataset ON runs (tenant, dataset) WHERE dataset <> '';

-- Which model versions went into a run. A run that takes what another is to make has its row when its own model is registered.
CREATE TABLE run_models (
	run   TEXT NOT NULL REFERENCES runs (id),
	role  TEXT NOT NULL CHECK (role IN ('base', 'start', 'reward_model')),
	model TEXT NOT NULL REFERENCES model_versions (id),
	PRIMARY KEY (run, role)
) STRICT, WITHOUT ROWID;
CREATE INDEX run_models_by_model ON run_models (model);
INSERT OR IGNORE INTO run_models (run, role, model)
	SELECT mv.run, x.role, i.id FROM model_versions AS mv
	JOIN (SELECT 'base' AS role UNION ALL SELECT 'start' UNION ALL SELECT 'reward_model') AS x
	JOIN models AS m ON m.tenant = mv.tenant
	JOIN model_versions AS i ON i.model = m.id AND m.name || '@' || i.number = json_extract(mv.lineage, '$.' || x.role)
	WHERE mv.run IS NOT NULL AND mv.lineage <> '';
INSERT OR IGNORE INTO run_models (run, role, model)
	SELECT s.run, x.role, i.id FROM run_specs AS s
	JOIN (SELECT 'base' AS role UNION ALL SELECT 'start' UNION ALL SELECT 'reward_model') AS x
	JOIN model_versions AS i ON i.id = json_extract(s.spec, '$.' || x.role || '.id');
