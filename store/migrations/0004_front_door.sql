-- Users get a role of their own, a cap on priority, a uid for the unix socket, and can be disabled.
ALTER TABLE users ADD COLUMN role TEXT NOT NULL DEFAULT 'member' CHECK (role IN ('viewer', 'member', 'admin', 'operator'));
ALTER TABLE users ADD COLUMN max_priority INTEGER CHECK (max_priority BETWEEN 0 AND 100); -- NULL: the site's default
ALTER TABLE users ADD COLUMN unix_uid INTEGER CHECK (unix_uid >= 0);                      -- NULL: unknown on the socket
ALTER TABLE users ADD COLUMN disabled_at INTEGER NOT NULL DEFAULT 0;
-- One uid is one user of one tenant: on the socket nobody says which one is meant.
CREATE UNIQUE INDEX users_by_uid ON users (unix_uid) WHERE unix_uid IS NOT NULL;
-- Users of before this step may do what their strongest key may.
UPDATE users SET role = 'operator' WHERE id IN (SELECT user_id FROM api_keys WHERE role = 'operator');
UPDATE users SET role = 'admin' WHERE role = 'member' AND id IN (SELECT user_id FROM api_keys WHERE role = 'admin');

ALTER TABLE api_keys ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN expires_at INTEGER NOT NULL DEFAULT 0;   -- 0: never
ALTER TABLE api_keys ADD COLUMN last_used_at INTEGER NOT NULL DEFAULT 0; -- to the minute; 0: never
ALTER TABLE api_keys ADD COLUMN replaces TEXT REFERENCES api_keys (id);  -- what a rotation made this one from

-- Two users of a tenant may send the same Idempotency-Key and mean different things.
DROP TABLE idempotency;
CREATE TABLE idempotency (
	tenant     TEXT NOT NULL REFERENCES tenants (id),
	user_id    TEXT NOT NULL,
	op         TEXT NOT NULL,
	key        TEXT NOT NULL,
	request    TEXT NOT NULL, -- SHA-256 of the request; the same key with another request is refused
	ref        TEXT NOT NULL, -- id of what the first request made or changed
	created_at INTEGER NOT NULL,
	PRIMARY KEY (tenant, user_id, op, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_by_age ON idempotency (created_at);
