package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/oklog/ulid/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/store"
)

const (
	lineageSets     = 1000
	lineageVersions = 100
	lineageAsks     = 200
	lineageLimit    = 20 // ms
)

// lineageMS asks where a version comes from, among 100,000: in a site of 1,000 datasets whose versions follow each other and take from others
// (lineage_ms), and where all 100,000 are ancestors of the one that is asked about (lineage_worst_ms). Each figure is the 99th percentile of what the store takes for a whole
// answer: the walk to the last ancestor and the 1,000 nearest nodes with what is known of them. It begins with the first ask, which reads all edges.
func lineageMS(ctx context.Context, e env) ([]figure, error) {
	var out []figure
	for _, g := range []struct {
		name    string
		parents func(*rand.Rand, int) []int
	}{{"lineage_ms", likelyParents}, {"lineage_worst_ms", allBefore}} {
		value, err := askLineage(ctx, e, g.name, g.parents)
		if err != nil {
			return nil, err
		}
		out = append(out, atMost(g.name, value, "ms", "budget", lineageLimit, 1))
	}
	return out, nil
}

// likelyParents: a version is made from the one before it, half the time from a version of one or two of the few datasets before its own as well:
// sources are mixed, and mixtures are seldom mixed again.
func likelyParents(r *rand.Rand, seq int) []int {
	set, n := (seq-1)%lineageSets, (seq-1)/lineageSets
	var all []int
	if n > 0 {
		all = append(all, seq-lineageSets)
	}
	if set >= 10 && r.IntN(2) == 0 {
		for range 1 + r.IntN(2) {
			if p := (n*lineageSets + set - 1 - r.IntN(10)) + 1; p != seq && !slices.Contains(all, p) {
				all = append(all, p)
			}
		}
	}
	return all
}

// allBefore: the one before, and two of any age.
func allBefore(r *rand.Rand, seq int) []int {
	if seq == 1 {
		return nil
	}
	all := []int{seq - 1}
	for range 2 {
		if p := 1 + r.IntN(seq-1); !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}

func askLineage(ctx context.Context, e env, name string, parents func(*rand.Rand, int) []int) (p99 float64, err error) {
	dir, err := os.MkdirTemp("", "forge-lineage-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "forge.db")
	db, err := store.Open(ctx, path, store.Options{})
	if err != nil {
		return 0, err
	}
	tenant, err := db.CreateTenant(ctx, "bench")
	if err != nil {
		return 0, errors.Join(err, db.Close())
	}
	_, secret, err := db.CreateKey(ctx, tenant.ID, "ana", forge.RoleMember, "bench")
	if err = errors.Join(err, db.Close()); err != nil {
		return 0, err
	}
	ids, err := fillLineage(path, tenant.ID, parents)
	if err != nil {
		return 0, err
	}
	if db, err = store.Open(ctx, path, store.Options{}); err != nil {
		return 0, err
	}
	defer db.Close()
	p, err := db.Authenticate(ctx, secret)
	if err != nil {
		return 0, err
	}
	t := db.For(p)
	var took []float64
	nodes, first, before := 0, 0.0, cpuTime()
	for i := range lineageAsks {
		began := time.Now()
		g, err := t.DatasetLineage(ctx, forge.DatasetVersionID(ids[len(ids)-1-i%100]), false, api.DefaultLineage)
		if err != nil {
			return 0, err
		}
		ms := float64(time.Since(began).Microseconds()) / 1000
		if took = append(took, ms); i == 0 {
			first, nodes = ms, len(g.Nodes)
		}
	}
	spent := float64((cpuTime() - before).Microseconds()) / 1000 / lineageAsks
	slices.Sort(took)
	if e.verbose {
		all, err := t.AncestorsOf(ctx, forge.DatasetVersionID(ids[len(ids)-1]))
		if err != nil {
			return 0, err
		}
		recursive, err := recursiveSQL(path, len(ids))
		if err != nil {
			return 0, err
		}
		fmt.Printf("  %s: %d ancestors, %d nodes answered; first ask %.1f ms, median %.1f, p99 %.1f, CPU time of one %.1f; a recursive query for the ids alone %.1f\n",
			name, all, nodes, first, took[len(took)/2], took[len(took)*99/100], spent, recursive)
	}
	return took[len(took)*99/100], nil
}

// cpuTime is what this process has used: on a busy machine it says more than a clock.
func cpuTime() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// fillLineage writes past the store.
func fillLineage(path string, tenant forge.TenantID, parents func(*rand.Rand, int) []int) (ids []string, err error) {
	db, err := sql.Open("sqlite3", "file:"+path+"?_busy_timeout=5000&_foreign_keys=1")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	tx, err := db.Begin()
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }()
	do := func(q string, args ...any) {
		if err == nil {
			_, err = tx.Exec(q, args...)
		}
	}
	sets := make([]string, lineageSets)
	for i := range sets {
		sets[i] = ulid.Make().String()
		do(`INSERT INTO datasets (id, tenant, name, last_version, created_at) VALUES (?, ?, ?, ?, 1)`, sets[i], string(tenant), "set-"+strconv.Itoa(i), lineageVersions)
	}
	file := ulid.Make().String()
	do(`INSERT INTO artifacts (id, tenant, sha256, root, bytes, files, created_at) VALUES (?, ?, 'x', '/data', 1, '', 1)`, file, string(tenant))
	r := rand.New(rand.NewPCG(1, 2))
	for seq := 1; seq <= lineageSets*lineageVersions && err == nil; seq++ {
		id := ulid.Make().String()
		ids = append(ids, id)
		do(`INSERT INTO dataset_versions (seq, id, tenant, dataset, number, kind, columns, rows, bytes, sha256, artifact, license, pii, created_by, created_at)
			VALUES (?, ?, ?, ?, ?, 'text', '', 1, 1, ?, ?, 'MIT', 'clean', 'ana', ?)`, seq, id, string(tenant), sets[(seq-1)%lineageSets], (seq-1)/lineageSets+1, strconv.Itoa(seq), file, seq)
		for _, p := range parents(r, seq) {
			do(`INSERT INTO dataset_parents (child, parent, tenant) VALUES (?, ?, ?)`, seq, p, string(tenant))
		}
	}
	if err != nil {
		return nil, err
	}
	return ids, tx.Commit()
}

// recursiveSQL is what the same walk costs in the database, without what is known of the nodes.
func recursiveSQL(path string, seq int) (ms float64, err error) {
	db, err := sql.Open("sqlite3", "file:"+path+"?mode=ro")
	if err != nil {
		return 0, err
	}
	defer db.Close()
	began := time.Now()
	var n int
	err = db.QueryRow(`WITH RECURSIVE up (v) AS (SELECT ? UNION SELECT parent FROM up JOIN dataset_parents ON child = v) SELECT count(*) FROM up`, seq).Scan(&n)
	return float64(time.Since(began).Microseconds()) / 1000, err
}
