-- Schedules, and what became of each of their due times. A schedule is taken away by a mark, so that what it did stays to be read.
CREATE TABLE schedules (
	id            TEXT PRIMARY KEY,
	tenant        TEXT NOT NULL REFERENCES tenants (id),
	name          TEXT NOT NULL,
	cron          TEXT NOT NULL,
	tz            TEXT NOT NULL,
	what          TEXT NOT NULL CHECK (json_valid(what)),       -- the run that it submits, as the API takes it
	baseline      TEXT NOT NULL,                                -- NAME@X; '': nothing is compared
	overlap       TEXT NOT NULL CHECK (overlap IN ('skip', 'queue', 'cancel')),
	catch_up      TEXT NOT NULL CHECK (catch_up IN ('once', 'none')),
	on_regression TEXT NOT NULL CHECK (on_regression IN ('event', 'block', 'rollback')),
	user_id       TEXT NOT NULL REFERENCES users (id),          -- an operator's user is of another tenant
	user_name     TEXT NOT NULL,                                -- as events name it
	role          TEXT NOT NULL CHECK (role IN ('member', 'admin', 'operator')),
	created_at    INTEGER NOT NULL,
	paused_at     INTEGER NOT NULL DEFAULT 0,
	removed_at    INTEGER NOT NULL DEFAULT 0,
	decided       INTEGER NOT NULL                              -- every due time up to here is decided
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX schedules_name ON schedules (tenant, name) WHERE removed_at = 0;

-- seq is the order in which they were decided: due times are no order, since clocks are moved.
CREATE TABLE schedule_firings (
	seq           INTEGER PRIMARY KEY AUTOINCREMENT,
	schedule      TEXT NOT NULL REFERENCES schedules (id),
	due           INTEGER NOT NULL,
	decided_at    INTEGER NOT NULL,
	state         TEXT NOT NULL CHECK (state IN ('fired', 'skipped', 'missed', 'refused')),
	words         TEXT NOT NULL,
	missed        INTEGER NOT NULL CHECK (missed >= 0),
	by_user       TEXT NOT NULL,                                -- '': its time had come
	run           TEXT REFERENCES runs (id),
	model         TEXT NOT NULL,
	model_id      TEXT NOT NULL,
	baseline      TEXT NOT NULL,                                -- NAME@VERSION; '': nothing is compared
	baseline_eval TEXT NOT NULL,                                -- as evals are named
	baseline_run  TEXT REFERENCES runs (id),                    -- the baseline's eval, where it was submitted with this firing
	verdict       TEXT NOT NULL DEFAULT '' CHECK (verdict IN ('', 'incomparable', 'regressed', 'inconclusive', 'non_inferior', 'missing')),
	verdict_words TEXT NOT NULL DEFAULT '',
	judged_at     INTEGER NOT NULL DEFAULT 0,
	cleared       TEXT NOT NULL DEFAULT '',
	UNIQUE (schedule, due),                                     -- no due time fires twice, whatever the clock does
	CHECK ((state = 'fired') = (run IS NOT NULL))
) STRICT;
CREATE INDEX schedule_firings_newest ON schedule_firings (schedule, seq);
CREATE INDEX schedule_firings_open ON schedule_firings (seq) WHERE state = 'fired' AND judged_at = 0;
CREATE INDEX schedule_firings_of_model ON schedule_firings (model_id, seq) WHERE verdict <> '';
