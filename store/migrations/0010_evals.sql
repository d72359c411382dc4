-- What evals found, written in the transaction that completes their run, and never after. (The table evals of 0001 was never written to.)
CREATE TABLE eval_results (
	run          TEXT PRIMARY KEY REFERENCES runs (id),
	tenant       TEXT NOT NULL REFERENCES tenants (id),
	model        TEXT NOT NULL,                     -- NAME@VERSION
	model_id     TEXT NOT NULL,                     -- of the version
	suite        TEXT NOT NULL,
	suite_sha256 TEXT NOT NULL,
	limited      INTEGER NOT NULL CHECK (limited IN (0, 1)),
	facts        TEXT NOT NULL,                     -- JSON of forge.EvalFacts
	created_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX eval_results_newest ON eval_results (tenant, created_at, run);
CREATE INDEX eval_results_of_model ON eval_results (tenant, model_id, suite, created_at);

CREATE TABLE eval_scores (
	run         TEXT NOT NULL REFERENCES eval_results (run),
	place       INTEGER NOT NULL,                   -- in the order of the suite
	task        TEXT NOT NULL,
	filter      TEXT NOT NULL,
	metric      TEXT NOT NULL,
	value       REAL NOT NULL,
	stderr      REAL,                               -- NULL: the harness gives none
	n           INTEGER NOT NULL CHECK (n > 0),
	higher      INTEGER CHECK (higher IN (0, 1)),   -- which way is better; NULL: it does not say
	aggregation TEXT NOT NULL,
	PRIMARY KEY (run, task, filter, metric)
) STRICT, WITHOUT ROWID;

CREATE TABLE eval_samples (
	run    TEXT NOT NULL REFERENCES eval_results (run),
	task   TEXT NOT NULL,
	filter TEXT NOT NULL,
	n      INTEGER NOT NULL CHECK (n > 0),          -- lines
	bytes  INTEGER NOT NULL CHECK (bytes > 0),      -- before they were packed
	data   BLOB NOT NULL,                           -- gzip of JSON lines
	PRIMARY KEY (run, task, filter)
) STRICT;

CREATE TRIGGER eval_results_immutable BEFORE UPDATE ON eval_results
BEGIN SELECT RAISE(ABORT, 'evals never change'); END;
CREATE TRIGGER eval_scores_immutable BEFORE UPDATE ON eval_scores
BEGIN SELECT RAISE(ABORT, 'evals never change'); END;
CREATE TRIGGER eval_samples_immutable BEFORE UPDATE ON eval_samples
BEGIN SELECT RAISE(ABORT, 'evals never change'); END;
