-- Clusters with a queue of their own (Slurm).
ALTER TABLE attempts ADD COLUMN batch TEXT NOT NULL DEFAULT '';    -- JSON of forge.BatchJob; '' where there is none
ALTER TABLE attempts ADD COLUMN batch_id TEXT NOT NULL DEFAULT ''; -- the batch system's own id, to find an attempt by
ALTER TABLE attempts ADD COLUMN handed_over INTEGER NOT NULL DEFAULT 0 CHECK (handed_over IN (0, 1)); -- 1: the cluster's own queue chooses its nodes; it has no allocations
ALTER TABLE attempts ADD COLUMN rehearsal INTEGER NOT NULL DEFAULT 0 CHECK (rehearsal IN (0, 1)); -- 1: its preemption was asked for by a user (run interrupt), and made room for nobody
-- What the cluster's own queue gives away is not ours to refuse it.
CREATE TRIGGER allocations_not_of_handed_over BEFORE INSERT ON allocations
WHEN (SELECT handed_over FROM attempts WHERE run = NEW.run AND number = NEW.attempt) = 1
BEGIN SELECT RAISE(ABORT, 'an attempt that was handed over holds no slots of ours'); END;
CREATE INDEX attempts_by_batch ON attempts (batch_id) WHERE batch_id <> '';

ALTER TABLE runs ADD COLUMN batch TEXT NOT NULL DEFAULT ''; -- JSON of forge.BatchOptions, repeated from the spec; '' where it names none
CREATE TRIGGER runs_batch_is_immutable BEFORE UPDATE OF batch ON runs
BEGIN SELECT RAISE(ABORT, 'the spec of a run never changes'); END;

ALTER TABLE nodes ADD COLUMN batch TEXT NOT NULL DEFAULT ''; -- JSON of forge.NodeBatch; '' where there is none

-- An operator's word that nothing new goes to a node. It outlives what executors say of the node.
CREATE TABLE node_drains (
	cluster TEXT NOT NULL,
	node    TEXT NOT NULL,
	by_user TEXT NOT NULL,
	reason  TEXT NOT NULL,
	at      INTEGER NOT NULL,
	outside INTEGER NOT NULL DEFAULT 0 CHECK (outside IN (0, 1)), -- 1: the batch system was told as well, and is to be told of the end
	PRIMARY KEY (cluster, node),
	FOREIGN KEY (cluster, node) REFERENCES nodes (cluster, name)
) STRICT, WITHOUT ROWID;

-- Which attempts ended by a fault that a node may have had its part in.
CREATE TABLE node_failures (
	cluster TEXT NOT NULL,
	node    TEXT NOT NULL,
	run     TEXT NOT NULL,
	attempt INTEGER NOT NULL,
	reason  TEXT NOT NULL,
	certain INTEGER NOT NULL CHECK (certain IN (0, 1)), -- 1: the node alone had it (its own GPU, its own environment); 0: all nodes of the gang are noted
	at      INTEGER NOT NULL,
	forgiven INTEGER NOT NULL DEFAULT 0 CHECK (forgiven IN (0, 1)), -- 1: an operator has let the node take work again since; history, and no evidence
	PRIMARY KEY (cluster, node, run, attempt),
	FOREIGN KEY (run, attempt) REFERENCES attempts (run, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX node_failures_by_time ON node_failures (cluster, at);
