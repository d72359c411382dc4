-- What registration saw in the rows of a dataset and in the files of a base model, for the look before a GPU is asked for.
-- '' is of before registration looked.
ALTER TABLE dataset_versions ADD COLUMN looked TEXT NOT NULL DEFAULT ''; -- JSON of forge.RowsSeen
ALTER TABLE model_versions ADD COLUMN looked TEXT NOT NULL DEFAULT '';   -- JSON of forge.WeightsSeen
CREATE TRIGGER dataset_versions_looked_is_immutable BEFORE UPDATE OF looked ON dataset_versions
BEGIN SELECT RAISE(ABORT, 'dataset versions never change'); END;
CREATE TRIGGER model_versions_looked_is_immutable BEFORE UPDATE OF looked ON model_versions
BEGIN SELECT RAISE(ABORT, 'what registration saw never changes'); END;
