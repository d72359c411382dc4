-- Stands in until the branch of checkpoints brings the real one.
SELECT 1;
