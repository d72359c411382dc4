-- Who is told of events. A hook that was removed keeps its row: the request that removed it may be repeated.
CREATE TABLE hooks (
	id            TEXT PRIMARY KEY,
	tenant        TEXT REFERENCES tenants (id), -- NULL: the site's
	name          TEXT NOT NULL,
	kind          TEXT NOT NULL CHECK (kind IN ('webhook', 'command', 'mail')),
	target        TEXT NOT NULL,
	events        TEXT NOT NULL CHECK (json_type(events) = 'array'),
	pattern       TEXT NOT NULL DEFAULT '',
	failures      INTEGER NOT NULL DEFAULT 0,
	created_at    INTEGER NOT NULL,
	created_by    TEXT NOT NULL,
	cursor        INTEGER NOT NULL, -- seq of the last event that was looked at
	paused_at     INTEGER NOT NULL DEFAULT 0,
	removed_at    INTEGER NOT NULL DEFAULT 0,
	last_ok_at    INTEGER NOT NULL DEFAULT 0,
	failing_since INTEGER NOT NULL DEFAULT 0,
	last_error    TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE UNIQUE INDEX hooks_by_name ON hooks (coalesce(tenant, ''), name) WHERE removed_at = 0;

-- What is on its way to them, and for a while what was.
CREATE TABLE hook_deliveries (
	id       TEXT PRIMARY KEY,
	hook     TEXT NOT NULL REFERENCES hooks (id),
	seq      INTEGER NOT NULL, -- of the event; 0: a test
	type     TEXT NOT NULL,
	state    TEXT NOT NULL CHECK (state IN ('waiting', 'delivered', 'failed')),
	tries    INTEGER NOT NULL DEFAULT 0,
	made_at  INTEGER NOT NULL,
	first_at INTEGER NOT NULL DEFAULT 0, -- of the first try
	tried_at INTEGER NOT NULL DEFAULT 0,
	next_at  INTEGER NOT NULL DEFAULT 0,
	status   INTEGER NOT NULL DEFAULT 0,
	took_ms  INTEGER NOT NULL DEFAULT 0,
	error    TEXT NOT NULL DEFAULT '',
	output   TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE UNIQUE INDEX hook_deliveries_once ON hook_deliveries (hook, seq) WHERE seq > 0;
CREATE INDEX hook_deliveries_waiting ON hook_deliveries (hook, seq) WHERE state = 'waiting';
CREATE INDEX hook_deliveries_ended ON hook_deliveries (made_at) WHERE state <> 'waiting';
