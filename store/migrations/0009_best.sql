-- What of checkpoints says which is the best. NULL: its writer did not say, or it is of before it was noted.
ALTER TABLE checkpoints ADD COLUMN loss REAL; -- mean since the save before it
