-- Rows as the store writes them. Every run has parameters of its own, as those of a sweep have, so that
-- nothing is gained by runs that say the same.
BEGIN IMMEDIATE;

INSERT OR IGNORE INTO clusters (name) VALUES ('local');

CREATE TEMP TABLE made (n INTEGER PRIMARY KEY, id TEXT, tenant TEXT, ended INTEGER, at INTEGER);
INSERT INTO made
WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < :historical + :waiting)
SELECT n, printf('01J%023d', n), (SELECT id FROM tenants), n <= :historical, 1750000000000000000 + n * 10000000000 FROM c;

INSERT INTO runs (id, tenant, number, user_name, state, reason, hold_by, hold_reason, hold_at, cancel, attempt, retries, fruitless, not_before, avoid,
	step, total_steps, saved_step, loss, model, submitted_at, started_at, ended_at, version,
	name, recipe, dataset, base, priority, cluster, register, nodes, gpus_per_node, cpus_per_gpu, memory_mib_per_gpu, time_limit)
SELECT id, tenant, n, 'user-' || (n % 40),
	CASE WHEN NOT ended THEN 'pending' WHEN n % 10 = 0 THEN 'failed' WHEN n % 25 = 1 THEN 'cancelled' ELSE 'completed' END,
	CASE WHEN NOT ended THEN '' WHEN n % 10 = 0 THEN 'user_exit' WHEN n % 25 = 1 THEN 'cancelled' ELSE 'completed' END,
	'', '', 0, '', ended, 0, 0, 0, '',
	ended * 1000, 1000, ended * 1000, CASE WHEN ended THEN 1.5 END, '', at, at * ended, (at + 3600000000000) * ended, 1 + 5 * ended,
	'sweep-' || (n / 100) || '-' || (n % 100), 'probe', '', '', 50, '', '', 1, 1, 1, 1, 3600000000000
FROM made;

INSERT INTO run_specs (run, spec, params, origins)
SELECT id, json_object('name', 'sweep-' || (n / 100) || '-' || (n % 100), 'recipe', 'probe',
	'recipe_sha256', '8f41877722e7c1d7b5a7f6f1f3f6c2d0a5b4e3c2d1f0a9b8c7d6e5f4a3b2c1d0', 'launch', 'rank',
	'entry', json('{"command":["sleep","1000"]}'), 'params', NULL, 'origins', NULL,
	'gang', json('{"nodes":1,"gpus_per_node":1,"cpus_per_gpu":1,"memory_mib_per_gpu":1}'), 'priority', 50,
	'time_limit', '1h0m0s', 'total_time', '1h0m0s', 'start_timeout', '30m0s', 'stall_timeout', '30m0s', 'grace', '30s', 'max_retries', 0),
	json_object('learning_rate', 0.0001 + n * 1e-9, 'lora.rank', 16, 'lora.alpha', 32, 'epochs', 3, 'batch_size', 8, 'seed', n, 'max_length', 2048,
		'warmup_ratio', 0.03, 'scheduler', 'cosine', 'save_every', 100, 'packing', json('true'), 'dtype', 'bfloat16'),
	json('{"learning_rate":"set","lora.rank":"default","lora.alpha":"default","epochs":"default","batch_size":"default","seed":"set","max_length":"default","warmup_ratio":"default","scheduler":"default","save_every":"default","packing":"default","dtype":"default"}')
FROM made;

INSERT INTO attempts (run, number, state, reason, detail, cluster, placement, external_id, run_dir, intent, resume_step, resume_from, last_step, saved_step,
	unknown_since, placed_at, started_at, exited_at, ended_at, exits, version)
SELECT r.id, 1, 'ended', r.reason, 'every rank exited with 0', 'local', '[{"node":"host-1","slots":[0],"cpus":1,"memory_mib":1}]', '/var/lib/forge/runs/' || r.id || '/attempts/0001',
	'/var/lib/forge/runs/' || r.id, '', 0, '', 1000, 1000, 0, r.started_at, r.started_at, r.ended_at, r.ended_at, '[{"node":"host-1","rank":0,"code":0}]', 6
FROM runs AS r WHERE r.state NOT IN ('pending');

INSERT INTO events (time, tenant, actor, type, run, number, attempt, reason, message, data)
SELECT CASE k WHEN 0 THEN at WHEN 3 THEN at + 3600000000000 ELSE at + 1000000 END, tenant, CASE k WHEN 0 THEN 'user-' || (n % 40) ELSE 'forged' END,
	CASE k WHEN 0 THEN 'run.submitted' WHEN 1 THEN 'run.placed' WHEN 2 THEN 'run.running' ELSE 'run.ended' END, id, n, min(k, 1), '',
	CASE k WHEN 0 THEN 'run ' || n || ' submitted: probe on 1 × 1' WHEN 1 THEN 'run ' || n || ' placed on host-1' WHEN 2 THEN 'run ' || n || ' runs' ELSE 'run ' || n || ' completed' END, ''
FROM made, (SELECT 0 AS k UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3)
WHERE k = 0 OR ended ORDER BY n, k;

UPDATE tenants SET last_run = :historical + :waiting;
UPDATE site SET revision = revision + :historical * 4 + :waiting;
COMMIT;
