-- What the driver says of a GPU's place, and of MIG instances.
ALTER TABLE gpus ADD COLUMN pci TEXT NOT NULL DEFAULT '';
ALTER TABLE gpus ADD COLUMN numa TEXT NOT NULL DEFAULT '';
ALTER TABLE gpus ADD COLUMN near_cpus TEXT NOT NULL DEFAULT '';
ALTER TABLE gpus ADD COLUMN mig TEXT NOT NULL DEFAULT '';
ALTER TABLE gpus ADD COLUMN parent TEXT NOT NULL DEFAULT '';

-- The rule of GPU health that drained the node; '': a person did. Only what forge has drained it lets back by itself.
ALTER TABLE node_drains ADD COLUMN rule TEXT NOT NULL DEFAULT '';

-- GPUs that take nothing new, by a rule or by an operator. Known by UUID: a GPU that vanishes and returns is still the one that was drained.
CREATE TABLE gpu_drains (
	cluster TEXT NOT NULL,
	node    TEXT NOT NULL,
	uuid    TEXT NOT NULL,
	by_user TEXT NOT NULL,
	rule    TEXT NOT NULL,             -- '': a person drained it
	hold    TEXT NOT NULL CHECK (hold IN ('drain_gpu', 'cordon_gpu', 'cordon_node')),
	reason  TEXT NOT NULL,
	at      INTEGER NOT NULL,
	over_at INTEGER NOT NULL DEFAULT 0, -- since when the condition has ended; 0: it has not
	PRIMARY KEY (cluster, node, uuid, rule)
) STRICT, WITHOUT ROWID;

-- What happened to GPUs and nodes, as `forgectl node events` shows it. Bounded: old lines go.
CREATE TABLE node_events (
	seq     INTEGER PRIMARY KEY,
	cluster TEXT NOT NULL,
	node    TEXT NOT NULL,
	at      INTEGER NOT NULL,
	kind    TEXT NOT NULL,             -- finding, over, drained, returned, foreign, missing, back, ...
	uuid    TEXT NOT NULL DEFAULT '',
	rule    TEXT NOT NULL DEFAULT '',
	xid     INTEGER NOT NULL DEFAULT 0,
	count   INTEGER NOT NULL DEFAULT 1,
	run     TEXT NOT NULL DEFAULT '',  -- that had the GPU
	attempt INTEGER NOT NULL DEFAULT 0,
	words   TEXT NOT NULL
) STRICT;
CREATE INDEX node_events_by_node ON node_events (cluster, node, seq);

-- What GPUs were like, in steps that grow with age: level 1 is a minute, level 2 a quarter of an hour. Means, and the highest temperature.
CREATE TABLE gpu_samples (
	uuid        TEXT NOT NULL,
	level       INTEGER NOT NULL CHECK (level IN (1, 2)),
	at          INTEGER NOT NULL,      -- when the step began
	util        REAL,                  -- percent; NULL: not said
	memory_mib  REAL,
	power_watts REAL,
	temperature REAL,
	PRIMARY KEY (uuid, level, at)
) STRICT, WITHOUT ROWID;
