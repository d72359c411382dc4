-- What runs cost. The price in force when GPUs were allocated is kept with the attempt: a later price never changes the past.
ALTER TABLE attempts ADD COLUMN gpus INTEGER NOT NULL DEFAULT 0;          -- that it holds or held, repeated from its placement
ALTER TABLE attempts ADD COLUMN price REAL CHECK (price >= 0);            -- of all of them together for an hour; NULL: not known, as of all attempts before this
ALTER TABLE attempts ADD COLUMN first_step_at INTEGER NOT NULL DEFAULT 0; -- when its ranks reported their first step; 0: none yet
ALTER TABLE attempts ADD COLUMN last_step_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN kept_at INTEGER NOT NULL DEFAULT 0;       -- when the newest of its checkpoints that still counts was saved: what was done up to there is not lost
ALTER TABLE attempts ADD COLUMN unheard_at INTEGER NOT NULL DEFAULT 0;    -- unknown_since as it was when it exited; 0: its executor answered

UPDATE attempts SET version = version + 1,
	gpus = coalesce((SELECT sum(json_array_length(s.value, '$.slots')) FROM json_each(placement) AS s), 0),
	kept_at = coalesce((SELECT c.saved_at FROM checkpoints AS c WHERE c.run = attempts.run AND c.step = attempts.saved_step AND c.attempt = attempts.number), 0)
WHERE placement <> '';

-- A period is looked up by when attempts let go of their GPUs; what holds some has 0.
CREATE INDEX attempts_by_exit ON attempts (exited_at);

-- Budgets. What a tenant spent in the period that is counted is written with the end of each attempt.
ALTER TABLE tenants ADD COLUMN budget REAL NOT NULL DEFAULT 0 CHECK (budget >= 0);                     -- in the site's currency; 0: none
ALTER TABLE tenants ADD COLUMN budget_gpu_hours REAL NOT NULL DEFAULT 0 CHECK (budget_gpu_hours >= 0); -- 0: none
ALTER TABLE tenants ADD COLUMN budget_period TEXT NOT NULL DEFAULT 'month' CHECK (budget_period IN ('month', 'week', 'total'));
ALTER TABLE tenants ADD COLUMN budget_warn REAL NOT NULL DEFAULT 0.8 CHECK (budget_warn > 0 AND budget_warn <= 1);
ALTER TABLE tenants ADD COLUMN spent_since INTEGER NOT NULL DEFAULT 0;                                 -- beginning of the period that is counted
ALTER TABLE tenants ADD COLUMN spent REAL NOT NULL DEFAULT 0 CHECK (spent >= 0);
ALTER TABLE tenants ADD COLUMN spent_gpu_ms INTEGER NOT NULL DEFAULT 0 CHECK (spent_gpu_ms >= 0);
ALTER TABLE tenants ADD COLUMN spent_unpriced_ms INTEGER NOT NULL DEFAULT 0 CHECK (spent_unpriced_ms >= 0); -- GPU milliseconds of which nobody knows the price
ALTER TABLE tenants ADD COLUMN budget_warned_at INTEGER NOT NULL DEFAULT 0;                            -- when that was last said; 0: never since the budget changed
ALTER TABLE tenants ADD COLUMN budget_spent_at INTEGER NOT NULL DEFAULT 0;
