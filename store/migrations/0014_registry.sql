-- The history of every model: who moved which version from which stage to which, why, and what its gate had found. Each line holds the
-- digest of the one before it. A version's stage is what the newest line about it says: writing a line is the only way to move one.
ALTER TABLE models ADD COLUMN history_seq INTEGER NOT NULL DEFAULT 0;  -- of the newest line
ALTER TABLE models ADD COLUMN history_head TEXT NOT NULL DEFAULT '';   -- its digest: a line that is cut off at the end is missed here
ALTER TABLE models ADD COLUMN history_began INTEGER NOT NULL DEFAULT 0; -- lines that stand for what was before there were histories: no event tells of them
CREATE TRIGGER models_immutable BEFORE UPDATE OF id, tenant, name, kind, created_at ON models
BEGIN SELECT RAISE(ABORT, 'a model keeps its name'); END;

-- How stages move: forge.stageMoves, with the action of each.
CREATE TABLE stage_moves (
	action  TEXT NOT NULL,
	was     TEXT NOT NULL,
	becomes TEXT NOT NULL,
	PRIMARY KEY (action, was, becomes)
) STRICT, WITHOUT ROWID;
INSERT INTO stage_moves (action, was, becomes) VALUES
	('register', '', 'staging'),
	('promote', 'staging', 'candidate'), ('promote', 'candidate', 'production'),
	('displace', 'production', 'archived'),
	('rollback', 'archived', 'production'),
	('archive', 'staging', 'archived'), ('archive', 'candidate', 'archived'), ('archive', 'production', 'archived');

CREATE TABLE stage_changes (
	model          TEXT NOT NULL,
	seq            INTEGER NOT NULL CHECK (seq > 0), -- counts within the model, without gaps
	tenant         TEXT NOT NULL,
	version        TEXT NOT NULL,
	version_sha256 TEXT NOT NULL,
	action         TEXT NOT NULL,
	was            TEXT NOT NULL,
	becomes        TEXT NOT NULL,
	actor          TEXT NOT NULL,
	at             INTEGER NOT NULL,
	reason         TEXT NOT NULL DEFAULT '',
	forced         INTEGER NOT NULL DEFAULT 0 CHECK (forced IN (0, 1)),
	report         TEXT NOT NULL DEFAULT '', -- JSON of forge.GateReport; '': no gate was asked
	report_sha256  TEXT NOT NULL DEFAULT '',
	before         TEXT NOT NULL,            -- digest of the line before; '' in the first
	sha256         TEXT NOT NULL,            -- of this line: store/stage_chain.go
	PRIMARY KEY (model, seq),
	CHECK ((report = '') = (report_sha256 = '')),
	FOREIGN KEY (tenant, model) REFERENCES models (tenant, id),
	FOREIGN KEY (tenant, version) REFERENCES model_versions (tenant, id)
) STRICT;
CREATE UNIQUE INDEX stage_changes_by_version ON stage_changes (version, seq);
-- A history is also held against the events that told of it.
CREATE INDEX events_of_models ON events (tenant, seq) WHERE type IN ('model.registered', 'model.stage_changed');

-- Digests are made by the program, so the lines of versions from before this table are written by it, here.
--:step begin_histories

CREATE TRIGGER stage_changes_chain BEFORE INSERT ON stage_changes
WHEN NOT EXISTS (SELECT 1 FROM models WHERE id = NEW.model AND history_seq = NEW.seq - 1 AND history_head = NEW.before)
BEGIN SELECT RAISE(ABORT, 'a line of a history comes behind the newest one'); END;
CREATE TRIGGER stage_changes_move BEFORE INSERT ON stage_changes
WHEN NOT EXISTS (SELECT 1 FROM stage_moves WHERE action = NEW.action AND was = NEW.was AND becomes = NEW.becomes)
	OR NEW.was <> coalesce((SELECT becomes FROM stage_changes WHERE version = NEW.version ORDER BY seq DESC LIMIT 1), '')
	OR NEW.action = 'rollback' AND NOT EXISTS (SELECT 1 FROM stage_changes WHERE version = NEW.version AND becomes = 'production')
BEGIN SELECT RAISE(ABORT, 'a version does not change its stage so'); END;
CREATE TRIGGER stage_changes_of_version BEFORE INSERT ON stage_changes
WHEN NOT EXISTS (SELECT 1 FROM model_versions WHERE id = NEW.version AND model = NEW.model AND sha256 = NEW.version_sha256)
BEGIN SELECT RAISE(ABORT, 'the line is of another model or of other bytes'); END;
CREATE TRIGGER stage_changes_carry AFTER INSERT ON stage_changes
BEGIN
	UPDATE models SET history_seq = NEW.seq, history_head = NEW.sha256 WHERE id = NEW.model;
	UPDATE model_versions SET stage = NEW.becomes WHERE id = NEW.version AND stage <> NEW.becomes;
END;
CREATE TRIGGER stage_changes_immutable BEFORE UPDATE ON stage_changes
BEGIN SELECT RAISE(ABORT, 'a history only grows'); END;
CREATE TRIGGER stage_changes_stay BEFORE DELETE ON stage_changes
BEGIN SELECT RAISE(ABORT, 'a history only grows'); END;
CREATE TRIGGER models_head BEFORE UPDATE OF history_seq, history_head ON models
WHEN NOT EXISTS (SELECT 1 FROM stage_changes WHERE model = NEW.id AND seq = NEW.history_seq AND sha256 = NEW.history_head AND seq = OLD.history_seq + 1)
BEGIN SELECT RAISE(ABORT, 'the head of a history moves with its newest line'); END;
CREATE TRIGGER models_history_began BEFORE UPDATE OF history_began ON models
BEGIN SELECT RAISE(ABORT, 'when a history began does not change'); END;
CREATE TRIGGER model_versions_begin BEFORE INSERT ON model_versions
WHEN NEW.stage <> 'staging'
BEGIN SELECT RAISE(ABORT, 'versions begin in staging'); END;
CREATE TRIGGER model_versions_move BEFORE UPDATE OF stage ON model_versions
WHEN NEW.stage <> OLD.stage AND NEW.stage IS NOT (SELECT becomes FROM stage_changes WHERE version = NEW.id ORDER BY seq DESC LIMIT 1)
BEGIN SELECT RAISE(ABORT, 'a version changes its stage by a line of its history'); END;
CREATE TRIGGER model_versions_stay BEFORE DELETE ON model_versions
BEGIN SELECT RAISE(ABORT, 'model versions stay'); END;

-- Names for versions. previous is kept by forge: what a rollback brings back.
CREATE TABLE model_aliases (
	model   TEXT NOT NULL,
	alias   TEXT NOT NULL CHECK (alias NOT IN ('staging', 'candidate', 'production', 'archived', 'latest') AND alias GLOB '*[^0-9]*'),
	tenant  TEXT NOT NULL,
	version TEXT NOT NULL,
	set_by  TEXT NOT NULL,
	set_at  INTEGER NOT NULL,
	PRIMARY KEY (model, alias),
	FOREIGN KEY (tenant, model) REFERENCES models (tenant, id),
	FOREIGN KEY (tenant, version) REFERENCES model_versions (tenant, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX model_aliases_by_version ON model_aliases (version);
CREATE TRIGGER model_aliases_of_model BEFORE INSERT ON model_aliases
WHEN NOT EXISTS (SELECT 1 FROM model_versions WHERE id = NEW.version AND model = NEW.model)
BEGIN SELECT RAISE(ABORT, 'an alias names a version of its own model'); END;
CREATE TRIGGER model_aliases_of_model_still BEFORE UPDATE ON model_aliases
WHEN NOT EXISTS (SELECT 1 FROM model_versions WHERE id = NEW.version AND model = NEW.model)
BEGIN SELECT RAISE(ABORT, 'an alias names a version of its own model'); END;
