-- Runs that were put on hold before an operator resumed their cluster must not pause it again.
ALTER TABLE clusters ADD COLUMN resumed_at INTEGER NOT NULL DEFAULT 0;
