-- An eval is of a run, or was made elsewhere and imported: so it has an id of its own (of a run's eval, the run's). The three tables of 0010
-- are made anew, since none of their constraints can be changed in place.
CREATE TABLE eval_results_new (
	id           TEXT PRIMARY KEY,
	tenant       TEXT NOT NULL REFERENCES tenants (id),
	run          TEXT UNIQUE REFERENCES runs (id),  -- NULL: imported
	number       INTEGER CHECK (number > 0),        -- of an imported one, counts per tenant: 3 is i3
	model        TEXT NOT NULL,                     -- NAME@VERSION
	model_id     TEXT NOT NULL,                     -- of the version
	suite        TEXT NOT NULL,
	suite_sha256 TEXT NOT NULL,
	limited      INTEGER NOT NULL CHECK (limited IN (0, 1)),
	facts        TEXT NOT NULL,                     -- JSON of forge.EvalFacts
	imported     TEXT NOT NULL DEFAULT '',          -- JSON of forge.EvalImport
	comparison   TEXT NOT NULL DEFAULT '',          -- JSON of forge.Comparison with the baseline that it was submitted with
	created_at   INTEGER NOT NULL,
	CHECK (run IS NULL OR run = id),
	CHECK ((run IS NULL) = (number IS NOT NULL)),
	CHECK ((run IS NULL) = (imported <> ''))
) STRICT, WITHOUT ROWID;
INSERT INTO eval_results_new (id, tenant, run, model, model_id, suite, suite_sha256, limited, facts, created_at)
	SELECT run, tenant, run, model, model_id, suite, suite_sha256, limited, facts, created_at FROM eval_results;

CREATE TABLE eval_scores_new (
	eval        TEXT NOT NULL REFERENCES eval_results_new (id),
	place       INTEGER NOT NULL,                   -- in the order of the suite
	task        TEXT NOT NULL,
	filter      TEXT NOT NULL,
	metric      TEXT NOT NULL,
	value       REAL NOT NULL,
	stderr      REAL,                               -- NULL: the harness gives none
	n           INTEGER NOT NULL CHECK (n > 0),
	higher      INTEGER CHECK (higher IN (0, 1)),   -- which way is better; NULL: it does not say
	aggregation TEXT NOT NULL,
	PRIMARY KEY (eval, task, filter, metric)
) STRICT, WITHOUT ROWID;
INSERT INTO eval_scores_new SELECT run, place, task, filter, metric, value, stderr, n, higher, aggregation FROM eval_scores;

CREATE TABLE eval_samples_new (
	eval   TEXT NOT NULL REFERENCES eval_results_new (id),
	task   TEXT NOT NULL,
	filter TEXT NOT NULL,
	n      INTEGER NOT NULL CHECK (n > 0),          -- lines
	bytes  INTEGER NOT NULL CHECK (bytes > 0),      -- before they were packed
	data   BLOB NOT NULL,                           -- gzip of JSON lines
	PRIMARY KEY (eval, task, filter)
) STRICT;
INSERT INTO eval_samples_new SELECT run, task, filter, n, bytes, data FROM eval_samples;

DROP TABLE eval_samples;
DROP TABLE eval_scores;
DROP TABLE eval_results;
ALTER TABLE eval_results_new RENAME TO eval_results;
ALTER TABLE eval_scores_new RENAME TO eval_scores;
ALTER TABLE eval_samples_new RENAME TO eval_samples;

CREATE INDEX eval_results_newest ON eval_results (tenant, created_at, id);
CREATE INDEX eval_results_of_model ON eval_results (tenant, model_id, suite, created_at);
CREATE UNIQUE INDEX eval_results_imported ON eval_results (tenant, number) WHERE number IS NOT NULL;

-- What of its samples a comparison needs, a column each, by document: two evals of 100,000 samples are read in milliseconds. Evals of before
-- have none, and their samples are read instead.
CREATE TABLE eval_columns (
	eval     TEXT NOT NULL REFERENCES eval_results (id),
	task     TEXT NOT NULL,
	filter   TEXT NOT NULL,
	n        INTEGER NOT NULL CHECK (n > 0),
	docs     BLOB NOT NULL,                         -- int64, little-endian, ascending
	asked    BLOB NOT NULL,                         -- 16 bytes of the digest of document and prompt
	clusters BLOB,                                  -- uint64, little-endian; NULL: samples stand for themselves
	lines    BLOB NOT NULL,                         -- uint32, little-endian: which line of eval_samples.data each is
	blocks   BLOB NOT NULL,                         -- int64, little-endian: where each 256 lines of it begin, a gzip of their own
	PRIMARY KEY (eval, task, filter),
	CHECK (length(docs) = 8 * n AND length(asked) = 16 * n AND length(lines) = 4 * n AND length(blocks) = 8 * ((n + 255) / 256)),
	CHECK (clusters IS NULL OR length(clusters) = 8 * n)
) STRICT;

CREATE TABLE eval_column_scores (
	eval   TEXT NOT NULL,
	task   TEXT NOT NULL,
	filter TEXT NOT NULL,
	metric TEXT NOT NULL,
	scores BLOB NOT NULL,                           -- float64, little-endian; NaN: no number was given
	PRIMARY KEY (eval, task, filter, metric),
	FOREIGN KEY (eval, task, filter) REFERENCES eval_columns (eval, task, filter)
) STRICT;

CREATE TRIGGER eval_results_immutable BEFORE UPDATE ON eval_results
BEGIN SELECT RAISE(ABORT, 'evals never change'); END;
CREATE TRIGGER eval_scores_immutable BEFORE UPDATE ON eval_scores
BEGIN SELECT RAISE(ABORT, 'evals never change'); END;
CREATE TRIGGER eval_samples_immutable BEFORE UPDATE ON eval_samples
BEGIN SELECT RAISE(ABORT, 'evals never change'); END;
CREATE TRIGGER eval_columns_immutable BEFORE UPDATE ON eval_columns
BEGIN SELECT RAISE(ABORT, 'evals never change'); END;
CREATE TRIGGER eval_column_scores_immutable BEFORE UPDATE ON eval_column_scores
BEGIN SELECT RAISE(ABORT, 'evals never change'); END;
