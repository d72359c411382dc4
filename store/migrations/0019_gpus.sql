-- What the driver says of a GPU's place, and of MIG instances.
ALTER TABLE gpus ADD COLUMN pci TEXT NOT NULL DEFAULT '';
ALTER TABLE gpus ADD COLUMN numa TEXT NOT NULL DEFAULT '';
ALTER TABLE gpus ADD COLUMN near_cpus TEXT NOT NULL DEFAULT '';
ALTER TABLE gpus ADD COLUMN mig TEXT NOT NULL DEFAULT '';
ALTER TABLE gpus ADD COLUMN parent TEXT NOT NULL DEFAULT '';

-- What takes nothing new, by a rule of GPU health or by an operator: a GPU, or a whole node (an operator's word on a whole node is in node_drains).
-- Known by UUID: a GPU that vanishes and returns is still the one that was held back. Only what a rule holds forge lets back by itself.
CREATE TABLE gpu_drains (
	cluster TEXT NOT NULL,
	node    TEXT NOT NULL,
	uuid    TEXT NOT NULL,             -- '': the node as a whole
	rule    TEXT NOT NULL,             -- '': a person drained it
	hold    TEXT NOT NULL CHECK (hold IN ('drain_gpu', 'cordon_gpu', 'cordon_node')),
	by_user TEXT NOT NULL,
	reason  TEXT NOT NULL,
	at      INTEGER NOT NULL,
	over_at INTEGER NOT NULL DEFAULT 0, -- since when the condition has ended; 0: it has not
	outside INTEGER NOT NULL DEFAULT 0 CHECK (outside IN (0, 1)), -- the batch system was told as well
	PRIMARY KEY (cluster, node, uuid, rule),
	CHECK (rule <> '' OR uuid <> '')
) STRICT, WITHOUT ROWID;

-- What happened to GPUs and nodes, as `forgectl node events` shows it. Bounded: old lines go.
CREATE TABLE node_events (
	seq     INTEGER PRIMARY KEY,
	cluster TEXT NOT NULL,
	node    TEXT NOT NULL,
	at      INTEGER NOT NULL,
	kind    TEXT NOT NULL,             -- see forge.NodeEventKind
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
