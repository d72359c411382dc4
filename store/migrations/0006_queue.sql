-- Where a run may go, and what is known of where it could.
ALTER TABLE runs ADD COLUMN narrowed TEXT NOT NULL DEFAULT ''; -- JSON of forge.Constraints, repeated from the spec; '' where it may go anywhere
ALTER TABLE runs ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1)); -- likewise; 1: must not be preempted
CREATE TRIGGER runs_narrowed_is_immutable BEFORE UPDATE OF narrowed, pinned ON runs
BEGIN SELECT RAISE(ABORT, 'the spec of a run never changes'); END;

ALTER TABLE gpus ADD COLUMN island INTEGER NOT NULL DEFAULT 0; -- GPUs of a node with one number reach each other over NVLink; 0: not known
