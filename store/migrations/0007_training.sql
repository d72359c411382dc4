-- Checkpoints: those of something else, how long saves took, which can be read by another number of ranks, which are gone.
CREATE TABLE checkpoints_of_seven (
	run         TEXT NOT NULL,
	attempt     INTEGER NOT NULL,
	step        INTEGER NOT NULL,
	path        TEXT NOT NULL,
	world       INTEGER NOT NULL,
	any_world   INTEGER NOT NULL DEFAULT 0 CHECK (any_world IN (0, 1)),
	bytes       INTEGER NOT NULL,
	sha256      TEXT NOT NULL,
	verdict     TEXT NOT NULL CHECK (verdict IN ('written', 'verified', 'torn', 'foreign')),
	why         TEXT NOT NULL,
	saved_at    INTEGER NOT NULL,
	took_ms     INTEGER NOT NULL DEFAULT 0 CHECK (took_ms >= 0),   -- 0: its writer did not say
	signal_ms   INTEGER NOT NULL DEFAULT 0 CHECK (signal_ms >= 0), -- from the request to stop; 0: none asked for it
	verified_at INTEGER NOT NULL,
	removed_at  INTEGER NOT NULL DEFAULT 0,                        -- 0: there when it was last looked for
	PRIMARY KEY (run, step, attempt),
	FOREIGN KEY (run, attempt) REFERENCES attempts (run, number)
) STRICT, WITHOUT ROWID;
INSERT INTO checkpoints_of_seven (run, attempt, step, path, world, bytes, sha256, verdict, why, saved_at, verified_at)
	SELECT run, attempt, step, path, world, bytes, sha256, verdict, why, saved_at, verified_at FROM checkpoints;
DROP TABLE checkpoints;
ALTER TABLE checkpoints_of_seven RENAME TO checkpoints;
