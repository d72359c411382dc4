package store

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

const (
	maxKnown   = 4096
	usedGrain  = stamp(time.Minute)
	usageDelay = 20 * time.Second // uses of this long go into one write
)

// errSecret is the one answer to a key that is unknown, expired or revoked, or whose user is disabled: which of
// them it is would tell a guesser something.
func errSecret() error {
	return forge.Errorf(forge.KindUnauthorized, "key.authenticate", "the API key is not valid").
		WithHint("set FORGE_API_KEY to a key from: forgectl key create")
}

// Authenticate answers who holds the secret. KindUnauthorized, by the same text, for one that is unknown, expired or
// revoked, or whose user is disabled.
func (db *DB) Authenticate(ctx context.Context, secret string) (forge.Principal, error) {
	hash := hashSecret(secret)
	return db.recognise(hash, errSecret, func() (*caller, error) {
		row := &keyRow{}
		err := selectKeys(db.read.NewSelect(), row).Where("k.hash = ?", hash).Where("k.revoked_at = 0").Where("u.disabled_at = 0").Scan(ctx)
		if err != nil {
			return nil, err
		}
		k := &caller{until: row.ExpiresAt, p: forge.Principal{Tenant: row.Tenant, Home: row.Tenant, User: row.User, UserID: row.UserID, Key: row.ID,
			Role: row.acts(), MaxPriority: row.UserCap, Via: forge.ViaKey}}
		k.used.Store(int64(row.UsedAt))
		return k, nil
	})
}

// AuthenticatePeer answers who the uid is that the kernel named at the other end of a unix socket. KindUnauthorized for one that is
// no user's, or a disabled one's.
func (db *DB) AuthenticatePeer(ctx context.Context, uid uint32) (forge.Principal, error) {
	name := strconv.FormatUint(uint64(uid), 10)
	unknown := func() error {
		return forge.Errorf(forge.KindUnauthorized, "user.authenticate", "uid %s is no user's here", name).
			WithHint("an operator makes it one's: forgectl user edit NAME --unix-uid %s; or give a key with FORGE_API_KEY", name)
	}
	return db.recognise("uid "+name, unknown, func() (*caller, error) { // no hash is spelt like that
		row := &userRow{}
		if err := db.read.NewSelect().Model(row).Where("u.unix_uid = ?", int64(uid)).Where("u.disabled_at = 0").Scan(ctx); err != nil {
			return nil, err
		}
		return &caller{p: forge.Principal{Tenant: row.Tenant, Home: row.Tenant, User: row.Name, UserID: row.ID, Role: row.Role,
			MaxPriority: row.MaxPriority, Via: forge.ViaSocket}}, nil
	})
}

// recognise answers from the cache, or reads and remembers. Expiry needs no write, so that it is looked at each time.
func (db *DB) recognise(name string, refused func() error, read func() (*caller, error)) (forge.Principal, error) {
	k, generation := db.keys.get(name)
	if k == nil {
		var err error
		k, err = read()
		if absent(err) {
			return forge.Principal{}, refused()
		}
		if err != nil {
			return forge.Principal{}, classify("key.authenticate", err)
		}
		db.keys.put(name, k, generation)
	}
	now := stampOf(db.now())
	if k.until != 0 && k.until <= now {
		return forge.Principal{}, refused()
	}
	if minute := now - now%usedGrain; k.p.Key != "" && stamp(k.used.Load()) < minute {
		k.used.Store(int64(minute))
		db.usage.note(k.p.Key, minute, db.flushUsage)
	}
	return k.p, nil
}

// caller is somebody whom the store has recognised.
type caller struct {
	p     forge.Principal
	until stamp        // of the key; 0: for ever
	used  atomic.Int64 // the minute that was noted last
}

// keyCache spares every request a query for who is asking. Any change of a key or user empties it: they are rare, and
// nothing then has to be said about which entry it may have touched. It raises the generation as well, so that an
// answer read before the change cannot be stored after it.
type keyCache struct {
	mu         sync.RWMutex
	generation int
	known      map[string]*caller
}

func (c *keyCache) get(name string) (*caller, int) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.known[name], c.generation
}

func (c *keyCache) put(name string, k *caller, generation int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if generation != c.generation {
		return
	}
	if c.known == nil || len(c.known) >= maxKnown {
		c.known = map[string]*caller{}
	}
	c.known[name] = k
}

func (c *keyCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	c.known = nil
}

// usage collects when keys were used, to the minute, and has it written some time later in one go: a request waits
// for no write, each key costs at most one row a minute, and a daemon that nobody asks writes nothing. A crash
// loses what the last seconds brought.
type usage struct {
	mu    sync.Mutex
	used  map[forge.KeyID]stamp // not yet written
	armed bool
}

func (u *usage) note(key forge.KeyID, minute stamp, flush func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.used == nil {
		u.used = map[forge.KeyID]stamp{}
	}
	u.used[key] = max(u.used[key], minute)
	if !u.armed {
		u.armed = true
		time.AfterFunc(usageDelay, flush)
	}
}

func (u *usage) last(key forge.KeyID) stamp {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.used[key]
}

func (u *usage) waiting() map[forge.KeyID]stamp {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.armed = false
	all := make(map[forge.KeyID]stamp, len(u.used))
	for k, at := range u.used {
		all[k] = at
	}
	return all
}

// written forgets what is in the table now; what was used again meanwhile stays.
func (u *usage) written(all map[forge.KeyID]stamp) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for k, at := range all {
		if u.used[k] == at {
			delete(u.used, k)
		}
	}
}

// flushUsage writes what was noted. What fails is tried again with the next use.
func (db *DB) flushUsage() {
	all := db.usage.waiting()
	if len(all) == 0 {
		return
	}
	err := db.write(context.Background(), "key.used", func(t *tx) error {
		for key, at := range all {
			if _, err := t.exec(`UPDATE api_keys SET last_used_at = ? WHERE id = ? AND last_used_at < ?`, int64(at), string(key), int64(at)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		if forge.KindOf(err) != forge.KindUnavailable {
			db.log.Error().Err(err).Msg("the last use of keys was not written")
		}
		return
	}
	db.usage.written(all)
}
