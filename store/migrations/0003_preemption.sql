-- A claim names the run that is stopped for it, so that "waits for 2 of 3 runs to save" can be said.
ALTER TABLE claims ADD COLUMN from_run TEXT NOT NULL DEFAULT '';
