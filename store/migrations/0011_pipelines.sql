-- Runs that were submitted together as the steps of a chain. What each step waits for and takes from the others is in the runs' own specs.
CREATE TABLE pipelines (
	id           TEXT PRIMARY KEY,
	tenant       TEXT NOT NULL REFERENCES tenants (id),
	name         TEXT NOT NULL,
	user_name    TEXT NOT NULL,
	submitted_at INTEGER NOT NULL
) STRICT;
CREATE INDEX pipelines_by_name ON pipelines (tenant, name);

-- A step that is submitted again has several runs.
CREATE TABLE pipeline_steps (
	run      TEXT PRIMARY KEY REFERENCES runs (id),
	pipeline TEXT NOT NULL REFERENCES pipelines (id),
	position INTEGER NOT NULL,
	step     TEXT NOT NULL
) STRICT;
CREATE INDEX pipeline_steps_in_order ON pipeline_steps (pipeline, position);
