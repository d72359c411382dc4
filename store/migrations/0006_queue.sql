-- The queue: what tenants are entitled to, what they and their users may have at once, and what they had lately.
ALTER TABLE tenants ADD COLUMN weight REAL NOT NULL DEFAULT 1 CHECK (weight >= 0.001 AND weight <= 1000000);
ALTER TABLE tenants ADD COLUMN quota_gpus INTEGER NOT NULL DEFAULT 0 CHECK (quota_gpus >= 0);  -- guaranteed
ALTER TABLE tenants ADD COLUMN max_gpus INTEGER NOT NULL DEFAULT 0 CHECK (max_gpus >= 0);      -- 0: no bound, as in the next three
ALTER TABLE tenants ADD COLUMN max_running INTEGER NOT NULL DEFAULT 0 CHECK (max_running >= 0);
ALTER TABLE tenants ADD COLUMN max_queued INTEGER NOT NULL DEFAULT 0 CHECK (max_queued >= 0);
ALTER TABLE tenants ADD COLUMN eval_gpus INTEGER NOT NULL DEFAULT 0 CHECK (eval_gpus >= 0);
ALTER TABLE tenants ADD COLUMN used_gpu_ms REAL NOT NULL DEFAULT 0 CHECK (used_gpu_ms >= 0);   -- of attempts that ended, faded up to used_at
ALTER TABLE tenants ADD COLUMN used_at INTEGER NOT NULL DEFAULT 0;

ALTER TABLE users ADD COLUMN max_gpus INTEGER NOT NULL DEFAULT 0 CHECK (max_gpus >= 0);
ALTER TABLE users ADD COLUMN max_running INTEGER NOT NULL DEFAULT 0 CHECK (max_running >= 0);
ALTER TABLE users ADD COLUMN max_queued INTEGER NOT NULL DEFAULT 0 CHECK (max_queued >= 0);

ALTER TABLE runs ADD COLUMN eval INTEGER NOT NULL DEFAULT 0 CHECK (eval IN (0, 1)); -- repeated from the spec
CREATE TRIGGER runs_eval_is_immutable BEFORE UPDATE OF eval ON runs
BEGIN SELECT RAISE(ABORT, 'the spec of a run never changes'); END;
-- A submission to a tenant or of a user with a bound counts what waits.
CREATE INDEX runs_waiting ON runs (tenant, user_name) WHERE state = 'pending';

-- One more kind of work: what a run is worth now is told to the queue that has it.
CREATE TABLE outbox_of_six (
	id         INTEGER PRIMARY KEY AUTOINCREMENT,
	kind       TEXT NOT NULL CHECK (kind IN ('launch', 'signal', 'finish', 'priority')),
	run        TEXT NOT NULL,
	attempt    INTEGER NOT NULL,
	intent     TEXT NOT NULL,
	created_at INTEGER NOT NULL,
	tries      INTEGER NOT NULL DEFAULT 0,
	UNIQUE (run, attempt, kind),
	FOREIGN KEY (run, attempt) REFERENCES attempts (run, number)
) STRICT;
INSERT INTO outbox_of_six SELECT id, kind, run, attempt, intent, created_at, tries FROM outbox;
DROP TABLE outbox;
ALTER TABLE outbox_of_six RENAME TO outbox;

-- Where a run may go, and what is known of where it could.
ALTER TABLE runs ADD COLUMN narrowed TEXT NOT NULL DEFAULT ''; -- JSON of forge.Constraints, repeated from the spec; '' where it may go anywhere
ALTER TABLE runs ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1)); -- likewise; 1: must not be preempted
CREATE TRIGGER runs_narrowed_is_immutable BEFORE UPDATE OF narrowed, pinned ON runs
BEGIN SELECT RAISE(ABORT, 'the spec of a run never changes'); END;

ALTER TABLE gpus ADD COLUMN island INTEGER NOT NULL DEFAULT 0; -- GPUs of a node with one number reach each other over NVLink; 0: not known
