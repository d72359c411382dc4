-- The tables of forge-ml. Times are INTEGER nanoseconds since 1970 UTC, 0 for "not set".
-- Columns that hold a list or a map are JSON text, '' for "none". What queries filter or
-- sort on is a column of its own. Invariants 2, 3 and 7 of DESIGN §6 are constraints here
-- first, so that a bug in Go code is refused and not stored.

CREATE TABLE site (
	id       INTEGER PRIMARY KEY CHECK (id = 1),
	revision INTEGER NOT NULL -- commits that changed something
) STRICT;
INSERT INTO site (id, revision) VALUES (1, 0);

CREATE TABLE tenants (
	id         TEXT PRIMARY KEY,
	name       TEXT NOT NULL UNIQUE,
	last_run   INTEGER NOT NULL DEFAULT 0, -- run numbers are counted here, so that none is used twice
	created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE users (
	id         TEXT PRIMARY KEY,
	tenant     TEXT NOT NULL REFERENCES tenants (id),
	name       TEXT NOT NULL,
	created_at INTEGER NOT NULL,
	UNIQUE (tenant, name),
	UNIQUE (tenant, id)
) STRICT;

CREATE TABLE api_keys (
	id         TEXT PRIMARY KEY,
	tenant     TEXT NOT NULL,
	user_id    TEXT NOT NULL,
	role       TEXT NOT NULL CHECK (role IN ('viewer', 'member', 'admin', 'operator')),
	prefix     TEXT NOT NULL,
	hash       TEXT NOT NULL UNIQUE, -- SHA-256 of the secret, hex; the secret itself is nowhere
	created_at INTEGER NOT NULL,
	revoked_at INTEGER NOT NULL DEFAULT 0,
	FOREIGN KEY (tenant, user_id) REFERENCES users (tenant, id)
) STRICT;

CREATE TABLE idempotency (
	tenant     TEXT NOT NULL REFERENCES tenants (id),
	op         TEXT NOT NULL,
	key        TEXT NOT NULL,
	request    TEXT NOT NULL, -- SHA-256 of the request; the same key with another request is refused
	ref        TEXT NOT NULL, -- id of what the first request made
	created_at INTEGER NOT NULL,
	PRIMARY KEY (tenant, op, key)
) STRICT, WITHOUT ROWID;

-- Manifests lie apart from what refers to them: they are large and listings do not need them.
CREATE TABLE artifacts (
	id         TEXT PRIMARY KEY,
	tenant     TEXT NOT NULL REFERENCES tenants (id),
	sha256     TEXT NOT NULL,
	root       TEXT NOT NULL,
	bytes      INTEGER NOT NULL,
	files      TEXT NOT NULL, -- JSON
	created_at INTEGER NOT NULL,
	UNIQUE (tenant, id)
) STRICT;
CREATE TRIGGER artifacts_immutable BEFORE UPDATE ON artifacts
BEGIN SELECT RAISE(ABORT, 'artifacts never change'); END;

CREATE TABLE datasets (
	id           TEXT PRIMARY KEY,
	tenant       TEXT NOT NULL REFERENCES tenants (id),
	name         TEXT NOT NULL,
	last_version INTEGER NOT NULL DEFAULT 0,
	created_at   INTEGER NOT NULL,
	UNIQUE (tenant, name),
	UNIQUE (tenant, id)
) STRICT;

CREATE TABLE dataset_versions (
	id         TEXT PRIMARY KEY,
	tenant     TEXT NOT NULL,
	dataset    TEXT NOT NULL,
	number     INTEGER NOT NULL CHECK (number > 0),
	kind       TEXT NOT NULL,
	columns    TEXT NOT NULL, -- JSON
	rows       INTEGER NOT NULL,
	bytes      INTEGER NOT NULL,
	sha256     TEXT NOT NULL,
	artifact   TEXT NOT NULL,
	license    TEXT NOT NULL,
	pii        TEXT NOT NULL CHECK (pii IN ('not_scanned', 'scanning', 'clean', 'findings', 'redacted', 'waived')),
	parent     TEXT,
	created_by TEXT NOT NULL,
	created_at INTEGER NOT NULL,
	UNIQUE (dataset, number),
	UNIQUE (dataset, sha256),
	UNIQUE (tenant, id),
	FOREIGN KEY (tenant, dataset) REFERENCES datasets (tenant, id),
	FOREIGN KEY (tenant, artifact) REFERENCES artifacts (tenant, id),
	FOREIGN KEY (tenant, parent) REFERENCES dataset_versions (tenant, id)
) STRICT;
CREATE TRIGGER dataset_versions_immutable
BEFORE UPDATE OF id, tenant, dataset, number, kind, columns, rows, bytes, sha256, artifact, parent ON dataset_versions
BEGIN SELECT RAISE(ABORT, 'dataset versions never change'); END;

CREATE TABLE models (
	id           TEXT PRIMARY KEY,
	tenant       TEXT NOT NULL REFERENCES tenants (id),
	name         TEXT NOT NULL,
	kind         TEXT NOT NULL CHECK (kind IN ('base', 'trained')),
	last_version INTEGER NOT NULL DEFAULT 0,
	created_at   INTEGER NOT NULL,
	UNIQUE (tenant, name),
	UNIQUE (tenant, id)
) STRICT;

CREATE TABLE model_versions (
	id         TEXT PRIMARY KEY,
	tenant     TEXT NOT NULL,
	model      TEXT NOT NULL,
	number     INTEGER NOT NULL CHECK (number > 0),
	stage      TEXT NOT NULL CHECK (stage IN ('staging', 'candidate', 'production', 'archived')),
	sha256     TEXT NOT NULL,
	bytes      INTEGER NOT NULL,
	artifact   TEXT NOT NULL,
	license    TEXT NOT NULL,
	run        TEXT REFERENCES runs (id), -- the run that made it; NULL for imported weights
	lineage    TEXT NOT NULL,             -- JSON
	created_by TEXT NOT NULL,
	created_at INTEGER NOT NULL,
	UNIQUE (model, number),
	UNIQUE (tenant, id),
	FOREIGN KEY (tenant, model) REFERENCES models (tenant, id),
	FOREIGN KEY (tenant, artifact) REFERENCES artifacts (tenant, id)
) STRICT;
CREATE INDEX model_versions_by_run ON model_versions (run) WHERE run IS NOT NULL;
-- Invariant 7: at most one version of a model is in production.
CREATE UNIQUE INDEX model_versions_one_production ON model_versions (model) WHERE stage = 'production';
CREATE TRIGGER model_versions_immutable
BEFORE UPDATE OF id, tenant, model, number, sha256, bytes, artifact, run, lineage ON model_versions
BEGIN SELECT RAISE(ABORT, 'model versions change their stage only'); END;

CREATE TABLE evals (
	id            TEXT PRIMARY KEY,
	tenant        TEXT NOT NULL,
	model_version TEXT NOT NULL,
	suite         TEXT NOT NULL,
	run           TEXT REFERENCES runs (id),
	scores        TEXT NOT NULL DEFAULT '', -- JSON
	created_by    TEXT NOT NULL,
	created_at    INTEGER NOT NULL,
	ended_at      INTEGER NOT NULL DEFAULT 0,
	FOREIGN KEY (tenant, model_version) REFERENCES model_versions (tenant, id)
) STRICT;

CREATE TABLE clusters (
	name          TEXT PRIMARY KEY,
	paused_reason TEXT NOT NULL DEFAULT '',
	paused_at     INTEGER NOT NULL DEFAULT 0 -- 0: takes work
) STRICT;

CREATE TABLE nodes (
	cluster    TEXT NOT NULL REFERENCES clusters (name),
	name       TEXT NOT NULL,
	cpus       INTEGER NOT NULL,
	memory_mib INTEGER NOT NULL,
	state      TEXT NOT NULL CHECK (state IN ('ready', 'drained', 'unknown')),
	reason     TEXT NOT NULL,
	labels     TEXT NOT NULL, -- JSON
	seen_at    INTEGER NOT NULL,
	version    INTEGER NOT NULL,
	PRIMARY KEY (cluster, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE gpus (
	cluster    TEXT NOT NULL,
	node       TEXT NOT NULL,
	slot       INTEGER NOT NULL,
	kind       TEXT NOT NULL CHECK (kind IN ('gpu', 'cpu_slot')),
	uuid       TEXT NOT NULL,
	type       TEXT NOT NULL,
	memory_mib INTEGER NOT NULL,
	sick       TEXT NOT NULL,
	PRIMARY KEY (cluster, node, slot),
	FOREIGN KEY (cluster, node) REFERENCES nodes (cluster, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
	id           TEXT PRIMARY KEY,
	tenant       TEXT NOT NULL REFERENCES tenants (id),
	number       INTEGER NOT NULL CHECK (number > 0),
	user_name    TEXT NOT NULL,
	state        TEXT NOT NULL CHECK (state IN ('pending', 'provisioning', 'running', 'completed', 'failed', 'cancelled')),
	reason       TEXT NOT NULL,
	hold_by      TEXT NOT NULL, -- '' : not held
	hold_reason  TEXT NOT NULL,
	hold_at      INTEGER NOT NULL,
	cancel       TEXT NOT NULL CHECK (cancel IN ('', 'save', 'term', 'now')),
	attempt      INTEGER NOT NULL,
	retries      INTEGER NOT NULL,
	fruitless    INTEGER NOT NULL,
	not_before   INTEGER NOT NULL,
	avoid        TEXT NOT NULL, -- JSON
	step         INTEGER NOT NULL,
	total_steps  INTEGER NOT NULL,
	saved_step   INTEGER NOT NULL,
	loss         REAL,
	model        TEXT NOT NULL,
	parent       TEXT REFERENCES runs (id),
	submitted_at INTEGER NOT NULL,
	started_at   INTEGER NOT NULL,
	ended_at     INTEGER NOT NULL,
	version      INTEGER NOT NULL,
	-- What listings show of the spec, so that they need not decode it.
	name         TEXT NOT NULL,
	recipe       TEXT NOT NULL,
	dataset      TEXT NOT NULL,
	base         TEXT NOT NULL,
	priority     INTEGER NOT NULL,
	cluster      TEXT NOT NULL,
	register     TEXT NOT NULL,
	nodes        INTEGER NOT NULL,
	gpus_per_node INTEGER NOT NULL,
	cpus_per_gpu INTEGER NOT NULL,
	memory_mib_per_gpu INTEGER NOT NULL,
	time_limit   INTEGER NOT NULL,
	UNIQUE (tenant, number)
) STRICT;
CREATE INDEX runs_live ON runs (id) WHERE state IN ('pending', 'provisioning', 'running');
-- Invariant 7: a terminal state is final.
CREATE TRIGGER runs_terminal_is_final BEFORE UPDATE OF state ON runs
WHEN OLD.state IN ('completed', 'failed', 'cancelled') AND NEW.state IS NOT OLD.state
BEGIN SELECT RAISE(ABORT, 'a terminal run never changes its state'); END;
CREATE TRIGGER runs_spec_is_immutable BEFORE UPDATE OF id, tenant, number, name, recipe, dataset, base, register, nodes,
	gpus_per_node, cpus_per_gpu, memory_mib_per_gpu, time_limit, parent, submitted_at ON runs
BEGIN SELECT RAISE(ABORT, 'the spec of a run never changes'); END;
CREATE TRIGGER runs_version_grows BEFORE UPDATE ON runs WHEN NEW.version <= OLD.version
BEGIN SELECT RAISE(ABORT, 'every change of a run raises its version'); END;

-- The spec lies apart: the row of a run is written at every step and read by the thousand, and
-- must be small for both.
CREATE TABLE run_specs (
	run     TEXT PRIMARY KEY REFERENCES runs (id),
	spec    TEXT NOT NULL, -- JSON, without the two that follow
	params  TEXT NOT NULL, -- JSON
	origins TEXT NOT NULL  -- JSON
) STRICT;
CREATE TRIGGER run_specs_immutable BEFORE UPDATE ON run_specs
BEGIN SELECT RAISE(ABORT, 'the spec of a run never changes'); END;

CREATE TABLE run_after (
	run   TEXT NOT NULL REFERENCES runs (id),
	needs TEXT NOT NULL REFERENCES runs (id),
	PRIMARY KEY (run, needs),
	CHECK (run <> needs)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempts (
	run           TEXT NOT NULL REFERENCES runs (id),
	number        INTEGER NOT NULL CHECK (number > 0),
	state         TEXT NOT NULL CHECK (state IN ('placed', 'launching', 'running', 'stopping', 'exited', 'ended')),
	reason        TEXT NOT NULL,
	detail        TEXT NOT NULL,
	cluster       TEXT NOT NULL REFERENCES clusters (name),
	placement     TEXT NOT NULL, -- JSON
	external_id   TEXT NOT NULL,
	run_dir       TEXT NOT NULL,
	intent        TEXT NOT NULL CHECK (intent IN ('', 'checkpoint_preempt', 'checkpoint_drain', 'checkpoint_user', 'cancel', 'kill')),
	resume_step   INTEGER NOT NULL,
	resume_from   TEXT NOT NULL,
	last_step     INTEGER NOT NULL,
	saved_step    INTEGER NOT NULL,
	unknown_since INTEGER NOT NULL,
	placed_at     INTEGER NOT NULL,
	started_at    INTEGER NOT NULL,
	exited_at     INTEGER NOT NULL,
	ended_at      INTEGER NOT NULL,
	exits         TEXT NOT NULL, -- JSON
	version       INTEGER NOT NULL,
	PRIMARY KEY (run, number)
) STRICT, WITHOUT ROWID;
-- Invariant 2: at most one attempt of a run is open.
CREATE UNIQUE INDEX attempts_one_open ON attempts (run) WHERE state IN ('placed', 'launching', 'running', 'stopping');
CREATE INDEX attempts_live ON attempts (run, number) WHERE state <> 'ended';
CREATE TRIGGER attempts_only_forward BEFORE UPDATE OF state ON attempts
WHEN instr('placed launching running stopping exited ended', NEW.state) < instr('placed launching running stopping exited ended', OLD.state)
BEGIN SELECT RAISE(ABORT, 'attempts only move forward'); END;
CREATE TRIGGER attempts_version_grows BEFORE UPDATE ON attempts WHEN NEW.version <= OLD.version
BEGIN SELECT RAISE(ABORT, 'every change of an attempt raises its version'); END;

-- Invariant 3: a slot belongs to one attempt. Rows are deleted on release, with proof.
CREATE TABLE allocations (
	cluster TEXT NOT NULL,
	node    TEXT NOT NULL,
	slot    INTEGER NOT NULL,
	run     TEXT NOT NULL,
	attempt INTEGER NOT NULL,
	PRIMARY KEY (cluster, node, slot),
	FOREIGN KEY (cluster, node) REFERENCES nodes (cluster, name),
	FOREIGN KEY (run, attempt) REFERENCES attempts (run, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX allocations_by_attempt ON allocations (run, attempt);

CREATE TABLE claims (
	cluster    TEXT NOT NULL,
	node       TEXT NOT NULL,
	slot       INTEGER NOT NULL,
	for_run    TEXT NOT NULL REFERENCES runs (id),
	created_at INTEGER NOT NULL,
	PRIMARY KEY (cluster, node, slot),
	FOREIGN KEY (cluster, node) REFERENCES nodes (cluster, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX claims_by_run ON claims (for_run);

CREATE TABLE checkpoints (
	run         TEXT NOT NULL,
	attempt     INTEGER NOT NULL,
	step        INTEGER NOT NULL,
	path        TEXT NOT NULL,
	world       INTEGER NOT NULL,
	bytes       INTEGER NOT NULL,
	sha256      TEXT NOT NULL,
	verdict     TEXT NOT NULL CHECK (verdict IN ('written', 'verified', 'torn')),
	why         TEXT NOT NULL,
	saved_at    INTEGER NOT NULL,
	verified_at INTEGER NOT NULL,
	PRIMARY KEY (run, step, attempt),
	FOREIGN KEY (run, attempt) REFERENCES attempts (run, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE streams (
	run        TEXT NOT NULL,
	attempt    INTEGER NOT NULL,
	stream     TEXT NOT NULL,
	cursor     INTEGER NOT NULL, -- bytes read and stored
	updated_at INTEGER NOT NULL,
	PRIMARY KEY (run, attempt, stream),
	FOREIGN KEY (run, attempt) REFERENCES attempts (run, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE run_metrics (
	run     TEXT NOT NULL,
	step    INTEGER NOT NULL,
	attempt INTEGER NOT NULL,
	time    INTEGER NOT NULL,
	"values" TEXT NOT NULL, -- JSON
	PRIMARY KEY (run, step),
	FOREIGN KEY (run, attempt) REFERENCES attempts (run, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE metric_rollups (
	run  TEXT NOT NULL REFERENCES runs (id),
	span INTEGER NOT NULL CHECK (span IN (16, 256, 4096)),
	step INTEGER NOT NULL, -- first step of the bucket
	key  TEXT NOT NULL,
	min  REAL NOT NULL,
	max  REAL NOT NULL,
	last REAL NOT NULL,
	PRIMARY KEY (run, span, step, key)
) STRICT, WITHOUT ROWID;

-- What was decided and is still to be done; a row goes when it is done. AUTOINCREMENT: the id of
-- a done row is never given again, or a late "done" would remove somebody else's work.
CREATE TABLE outbox (
	id         INTEGER PRIMARY KEY AUTOINCREMENT,
	kind       TEXT NOT NULL CHECK (kind IN ('launch', 'signal', 'finish')),
	run        TEXT NOT NULL,
	attempt    INTEGER NOT NULL,
	intent     TEXT NOT NULL,
	created_at INTEGER NOT NULL,
	tries      INTEGER NOT NULL DEFAULT 0,
	UNIQUE (run, attempt, kind),
	FOREIGN KEY (run, attempt) REFERENCES attempts (run, number)
) STRICT;

CREATE TABLE events (
	seq     INTEGER PRIMARY KEY, -- max + 1 and nothing is ever deleted: no gaps
	time    INTEGER NOT NULL,
	tenant  TEXT REFERENCES tenants (id), -- NULL: about the site
	actor   TEXT NOT NULL,
	type    TEXT NOT NULL,
	run     TEXT REFERENCES runs (id),
	number  INTEGER NOT NULL,
	attempt INTEGER NOT NULL,
	reason  TEXT NOT NULL,
	message TEXT NOT NULL,
	data    TEXT NOT NULL -- JSON
) STRICT;
CREATE INDEX events_by_tenant ON events (tenant, seq);
CREATE INDEX events_by_run ON events (run, seq) WHERE run IS NOT NULL;
CREATE INDEX events_held ON events (time) WHERE type = 'run.held';
CREATE TRIGGER events_append_only_update BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER events_append_only_delete BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
