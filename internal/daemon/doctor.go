package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// The doctor looks at what breaks a site without breaking the program: disks, clocks, permissions, environments. Each look is bounded and
// independent of the others; one that does not come back is unknown, and is not started a second time beside the first.

// The limits that the checks judge by; every finding names the one that it was held against.
const (
	lookTimeout   = 10 * time.Second
	pythonTimeout = time.Minute // a cold disk and a busy host take their time over torch
	skewWarn      = time.Second
	skewFail      = 30 * time.Second
	freeWarn      = 10 // percent
	freeFail      = 2
	freeFailBytes = 1 << 30
	syncWarn      = 50 * time.Millisecond
	syncFail      = time.Second
	outboxWarn    = time.Minute
	outboxFail    = 15 * time.Minute
	unknownWarn   = time.Minute
	staleAfter    = time.Hour
	logWarn       = 1 << 30
	backupWarn    = 7 * 24 * time.Hour

	certificateWarn = 30 * 24 * time.Hour
)

// finding is how one look came out; the name is the check's.
type finding struct {
	status     api.CheckStatus
	found, fix string
}

func fine(format string, args ...any) finding {
	return finding{status: api.CheckOK, found: fmt.Sprintf(format, args...)}
}

func (f finding) but(status api.CheckStatus, fix string, args ...any) finding {
	f.status, f.fix = status, fmt.Sprintf(fix, args...)
	return f
}

func notKnown(err error) finding {
	return finding{status: api.CheckUnknown, found: err.Error()}
}

// check is one thing to look at.
type check struct {
	name  string
	limit time.Duration
	look  func(context.Context) finding
}

// doctor remembers which looks have not come back.
type doctor struct {
	mu   sync.Mutex
	away map[string]time.Time
}

// checks looks at everything, side by side, in a fixed order of answers.
func (d *Daemon) checks(ctx context.Context) []api.Check { return d.look(ctx, d.list()) }

func (d *Daemon) look(ctx context.Context, list []check) []api.Check {
	out := make([]api.Check, len(list))
	var wg sync.WaitGroup
	for i, c := range list {
		wg.Go(func() {
			f := d.doctor.run(ctx, c)
			out[i] = api.Check{Name: c.name, Status: f.status, Found: f.found, Fix: f.fix}
		})
	}
	wg.Wait()
	return out
}

// run bounds one look, also one that hangs in the kernel and knows nothing of contexts.
func (d *doctor) run(ctx context.Context, c check) finding {
	d.mu.Lock()
	if since, ok := d.away[c.name]; ok {
		d.mu.Unlock()
		return finding{status: api.CheckUnknown, found: fmt.Sprintf("the look of %s has not come back", since.Format(time.RFC3339)),
			fix: "a filesystem or program that hangs is the likely cause: look at dmesg and at mount"}
	}
	if d.away == nil {
		d.away = map[string]time.Time{}
	}
	d.away[c.name] = time.Now()
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	came := make(chan finding, 1)
	go func() {
		f := c.look(ctx)
		d.mu.Lock()
		delete(d.away, c.name)
		d.mu.Unlock()
		came <- f
	}()
	select {
	case f := <-came:
		return f
	case <-ctx.Done():
		return finding{status: api.CheckUnknown, found: fmt.Sprintf("no answer within %s", c.limit), fix: "look at dmesg and at mount for a filesystem that hangs"}
	}
}

func (d *Daemon) list() []check {
	dir := d.live().cfg.StateDir
	list := []check{
		{"clock_skew", lookTimeout, d.checkClock},
		{"state_disk_free", lookTimeout, func(context.Context) finding { return freeSpace(dir) }},
		{"disk_latency", lookTimeout, func(context.Context) finding { return syncLatency(dir) }},
		{"state_lock", lookTimeout, func(context.Context) finding { return heldLock(dir) }},
		{"state_files", lookTimeout, func(context.Context) finding { return staleFiles(dir, time.Now()) }},
		{"database_size", lookTimeout, func(context.Context) finding { return d.databaseSize() }},
		{"database_whole", lookTimeout, func(context.Context) finding { return d.databaseWhole() }},
		{"last_backup", lookTimeout, func(context.Context) finding { return lastBackupAge(dir, time.Now()) }},
		{"outbox_stuck", lookTimeout, func(ctx context.Context) finding { return d.outboxStuck(ctx, time.Now()) }},
		{"executor_unknown", lookTimeout, func(context.Context) finding { return d.executorUnknown(time.Now()) }},
		{"guaranteed_quotas", lookTimeout, func(context.Context) finding { return d.guarantees() }},
		{"prices", lookTimeout, func(context.Context) finding { return d.pricesSaid() }},
		{"hooks", lookTimeout, func(ctx context.Context) finding { return d.hookTrouble(ctx, time.Now()) }},
		{"planning", lookTimeout, func(context.Context) finding { return d.planning() }},
	}
	cfg := d.live().cfg
	for _, c := range d.clusterList() {
		at := func(check string) string { return check + "/" + string(c.Name) }
		list = append(list,
			check{at("run_root_disk_free"), lookTimeout, func(context.Context) finding { return freeSpace(c.RunRoot) }},
			check{at("run_root_writable"), lookTimeout, func(context.Context) finding { return writable(c.RunRoot) }})
		if c.GPUs != nil {
			list = append(list, check{at("gpus"), lookTimeout, func(context.Context) finding { return d.gpusSeen(c) }})
		}
		i := slices.IndexFunc(cfg.Clusters, func(x ClusterConfig) bool { return x.Name == string(c.Name) })
		if i >= 0 {
			list = append(list, check{at("python_environment"), pythonTimeout, func(ctx context.Context) finding { return pythonEnvironment(ctx, cfg.Clusters[i].Python) }})
		}
	}
	return append(list, check{"tls_certificate", lookTimeout, func(context.Context) finding { return certificate(d.certificates(), time.Now()) }})
}

// certificates are the files that TLS is served from.
func (d *Daemon) certificates() []string {
	cfg := d.live().cfg
	switch {
	case cfg.Listen.TLS.Cert != "":
		return []string{cfg.Listen.TLS.Cert}
	case cfg.Listen.TLS.Generate:
		all, _ := filepath.Glob(filepath.Join(cfg.StateDir, tlsDir, "*.pem"))
		return all
	}
	return nil
}

// checkClock compares this host's clock with the filesystems that forged writes to, and with what it wrote last.
func (d *Daemon) checkClock(ctx context.Context) finding {
	const fix = "set the clock and keep it: timedatectl set-ntp true; then timedatectl timesync-status"
	var worst time.Duration
	where := "the state directory"
	dirs := []string{d.live().cfg.StateDir}
	for _, c := range d.clusterList() {
		dirs = append(dirs, c.RunRoot)
	}
	for _, dir := range dirs {
		off, err := skewOf(dir)
		if err != nil {
			continue // whether it can be written is another check's word
		}
		if off.Abs() > worst.Abs() {
			worst, where = off, dir
		}
	}
	newest, err := d.db.NewestEvent(ctx)
	if err != nil {
		return notKnown(err)
	}
	if ahead := time.Until(newest); ahead > worst.Abs() && ahead > skewWarn {
		worst, where = -ahead, "the newest event ("+newest.Format(time.RFC3339)+"): the clock went back"
	}
	f := fine("this clock is off by %s against %s; limit %s", worst.Round(time.Millisecond), where, skewWarn)
	switch {
	case worst.Abs() > skewFail:
		return f.but(api.CheckFail, fix)
	case worst.Abs() > skewWarn:
		return f.but(api.CheckWarn, fix)
	}
	return f
}

// skewOf is how far this clock is ahead of the one that stamps files in dir.
func skewOf(dir string) (time.Duration, error) {
	before := time.Now()
	f, err := os.CreateTemp(dir, ".doctor-*.tmp")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	defer func() { _ = f.Close() }()
	if _, err := f.WriteString("clock"); err != nil {
		return 0, err
	}
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	after, at := time.Now(), st.ModTime()
	const coarse = 20 * time.Millisecond // the kernel stamps by its last tick
	switch {
	case at.Before(before.Add(-coarse)):
		return before.Sub(at), nil
	case at.After(after.Add(coarse)):
		return after.Sub(at), nil
	}
	return 0, nil
}

// freeSpace judges bytes and inodes: a disk is full by whichever ends first.
func freeSpace(dir string) finding {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return finding{status: api.CheckFail, found: fmt.Sprintf("%s: %v", dir, err), fix: "make the directory, or mount what belongs there: " + dir}
	}
	free, total := int64(st.Bavail)*st.Bsize, int64(st.Blocks)*st.Bsize
	percent := func(n, of uint64) int {
		if of == 0 { // some filesystems make inodes as they need them
			return 100
		}
		return int(n * 100 / of)
	}
	bytes, inodes := percent(st.Bavail, st.Blocks), percent(st.Ffree, st.Files)
	f := fine("%s has %d of %d MiB free (%d %%) and %d %% of its inodes; limits %d %% and %d %%", dir, free>>20, total>>20, bytes, inodes, freeWarn, freeFail)
	const fix = "free space on it, or move: du -xh --max-depth=2 %s | sort -h | tail"
	switch {
	case bytes < freeFail || inodes < freeFail || free < freeFailBytes && bytes < freeWarn:
		return f.but(api.CheckFail, fix, dir)
	case bytes < freeWarn || inodes < freeWarn:
		return f.but(api.CheckWarn, fix, dir)
	}
	return f
}

// syncLatency is what every acknowledged submission waits for.
func syncLatency(dir string) finding {
	f, err := os.CreateTemp(dir, ".doctor-*.tmp")
	if err != nil {
		return finding{status: api.CheckFail, found: err.Error(), fix: "give the state directory to the user that runs forged: chown -R USER " + dir}
	}
	defer func() { _ = os.Remove(f.Name()) }()
	defer func() { _ = f.Close() }()
	var took []time.Duration
	for range 5 {
		began := time.Now()
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			return finding{status: api.CheckFail, found: err.Error(), fix: "free space on the filesystem of " + dir}
		}
		if err := f.Sync(); err != nil {
			return finding{status: api.CheckFail, found: err.Error(), fix: "the disk does not take writes; look at dmesg"}
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return judgeLatency(dir, took[len(took)/2])
}

func judgeLatency(dir string, median time.Duration) finding {
	res := fine("a durable write of 4 KiB to %s takes %s; limits %s and %s", dir, median.Round(10*time.Microsecond), syncWarn, syncFail)
	const fix = "find what else writes to this disk (iostat -x 1, iotop), or move the state directory to a faster one"
	switch {
	case median > syncFail:
		return res.but(api.CheckFail, fix)
	case median > syncWarn:
		return res.but(api.CheckWarn, fix)
	}
	return res
}

// heldLock sees whether the lock that keeps a second daemon away still does: a lock file that was deleted and made anew is nobody's.
func heldLock(dir string) finding {
	path := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return finding{status: api.CheckFail, found: fmt.Sprintf("%v: a second forged could serve %s beside this one", err, dir), fix: "restart forged, and let nothing clean up in its state directory"}
	}
	defer func() { _ = f.Close() }()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		return finding{status: api.CheckFail, found: fmt.Sprintf("%s is not held by this forged: it was replaced, and a second one could start", path), fix: "restart forged, and let nothing clean up in its state directory"}
	}
	return fine("%s is held", path)
}

// staleFiles finds what an interrupted program left in the state directory.
func staleFiles(dir string, now time.Time) finding {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return notKnown(err)
	}
	var old []string
	for _, e := range entries {
		temp := strings.HasSuffix(e.Name(), ".tmp") || strings.HasPrefix(e.Name(), ".forge-") || e.Name() == stagingDir
		if info, err := e.Info(); err == nil && temp && now.Sub(info.ModTime()) > staleAfter {
			old = append(old, filepath.Join(dir, e.Name()))
		}
	}
	if len(old) == 0 {
		return fine("nothing was left behind in %s", dir)
	}
	return fine("%d files of interrupted work, older than %s", len(old), staleAfter).but(api.CheckWarn, "rm -r %s", strings.Join(old[:min(len(old), maxNamed)], " "))
}

func (d *Daemon) databaseSize() finding {
	file, log := d.db.Size()
	f := fine("the database has %d MiB, its log %d MiB; limit of the log %d MiB", file>>20, log>>20, int64(logWarn)>>20)
	if log > logWarn {
		return f.but(api.CheckWarn, "something reads the database for very long (a backup, a shell): end it, then: systemctl restart forged")
	}
	return f
}

func (d *Daemon) databaseWhole() finding {
	if x := d.damage.Load(); x != nil {
		return finding{status: api.CheckFail, found: *x, fix: "restore the newest backup into an empty directory: forged restore FILE --state-dir DIR"}
	}
	if w := d.settling.Load(); w != nil {
		return finding{status: api.CheckWarn, found: "restored from a backup; nothing is placed until the clusters agree with it: " + strings.Join(*w, "; "), fix: "do what each of these says; forged looks again by itself"}
	}
	return fine("no damage is known")
}

func lastBackupAge(dir string, now time.Time) finding {
	fix := "forged backup --state-dir " + dir + " --out /another/disk/forge-$(date +%F).tar.gz"
	last, err := ReadLastBackup(dir)
	if os.IsNotExist(err) {
		return finding{status: api.CheckWarn, found: "no backup was made yet", fix: fix}
	}
	if err != nil {
		return notKnown(err)
	}
	age := now.Sub(last.TakenAt)
	f := fine("the last backup is %s old: %s; limit %s", age.Round(time.Minute), last.File, backupWarn)
	if age > backupWarn {
		return f.but(api.CheckWarn, "%s", fix)
	}
	return f
}

// outboxStuck finds decisions that nobody carries out.
func (d *Daemon) outboxStuck(ctx context.Context, now time.Time) finding {
	rows, err := d.db.Outbox(ctx)
	if err != nil {
		return notKnown(err)
	}
	if len(rows) == 0 {
		return fine("nothing waits to be done")
	}
	r := rows[0]
	age := now.Sub(r.CreatedAt)
	name := string(r.Run)
	if run, ok := d.world.run(r.Run); ok {
		name = fmt.Sprint(run.Number)
	}
	f := fine("%d decisions wait to be done; the oldest, to %s attempt %d of run %s, for %s after %d tries; limits %s and %s",
		len(rows), r.Kind, r.Attempt, name, age.Round(time.Second), r.Tries, outboxWarn, outboxFail)
	fix := fmt.Sprintf("forged's log says why each try failed: journalctl -u forged | grep %s; and: forgectl run events %s", r.Run, name)
	switch {
	case age > outboxFail:
		return f.but(api.CheckFail, "%s", fix)
	case age > outboxWarn:
		return f.but(api.CheckWarn, "%s", fix)
	}
	return f
}

func (d *Daemon) executorUnknown(now time.Time) finding {
	var count int
	var oldest forge.Attempt
	for _, a := range d.world.open() {
		if a.State.Open() && !a.Unknown.IsZero() {
			if count++; oldest.Unknown.IsZero() || a.Unknown.Before(oldest.Unknown) {
				oldest = a
			}
		}
	}
	if count == 0 {
		return fine("every attempt's executor answers")
	}
	age := now.Sub(oldest.Unknown)
	f := fine("%d attempts of which nothing is heard, the oldest (run %s on cluster %s) for %s; limit %s; what they hold stays allocated", count, oldest.Run, oldest.Cluster, age.Round(time.Second), unknownWarn)
	if age > unknownWarn {
		return f.but(api.CheckWarn, "see that the run directories are mounted and the nodes answer: forgectl node list; ls %s", oldest.RunDir)
	}
	return f
}

func (d *Daemon) planning() finding {
	if x := d.planFault.Load(); x != nil {
		return finding{status: api.CheckFail, found: "planning stands still: " + *x, fix: "report this with forged's log: it is a bug; runs that are placed go on"}
	}
	return fine("plans are carried out")
}
