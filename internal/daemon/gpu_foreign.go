package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/direct"
)

// useKind says whose a process is that uses a GPU of ours without having been placed there.
type useKind string

const (
	useStranger useKind = "stranger" // not forge's: never ended
	useAstray   useKind = "astray"   // of an attempt of ours that runs, and was given other GPUs: told, not ended
	useLeftover useKind = "leftover" // of an attempt of ours that has ended: ended
	useUnseen   useKind = "unseen"   // this host's /proc does not have it: it has just ended, or lives in another pid namespace
)

// gpuUse is one process on one GPU that nobody of ours may be on, or is not this one's.
type gpuUse struct {
	Kind useKind
	UUID string
	PID  int
	direct.Holder
}

// attemptKey names an attempt.
type attemptKey struct {
	run    forge.RunID
	number int
}

// userOf is what is asked of the processes of this host.
type userOf func(pid int) (direct.Holder, error)

// foreign finds what uses GPUs without being placed there. have says which attempts hold a GPU, over says of an attempt of ours that it has ended. A
// process that /proc does not have is nobody's only on a GPU that none of ours holds: elsewhere it may be that attempt's, in a container.
func foreign(look forge.GPULook, have map[string][]attemptKey, of userOf, active, over func(direct.Holder) bool) (out []gpuUse) {
	if look.State != forge.NVMLOK {
		return nil
	}
	for _, g := range look.GPUs {
		for _, p := range g.Processes {
			u := gpuUse{UUID: g.UUID, PID: p.PID}
			h, err := of(p.PID)
			switch u.Holder = h; {
			case errors.Is(err, os.ErrProcessDone):
				if u.Kind = useUnseen; len(have[g.UUID]) > 0 {
					continue
				}
			case err != nil || h.Run == "":
				u.Kind = useStranger
			case slices.Contains(have[g.UUID], attemptKey{h.Run, h.Attempt}):
				continue
			case active(h):
				u.Kind = useAstray
			case over(h):
				u.Kind = useLeftover
			default:
				u.Kind = useStranger // another forged's
			}
			out = append(out, u)
		}
	}
	return out
}

// strangers remembers who was told of, so that a process is told of once and not at each look.
type strangers struct {
	mu sync.Mutex
	m  map[nodeKey]map[useKey]*stranger
}

type useKey struct {
	uuid  string
	pid   int
	start uint64
}

type stranger struct {
	since time.Time
	said  bool
	words string // for everybody
}

// unseenPatience is how long a driver may show a process that has ended.
const unseenPatience = 30 * time.Second

// holders asks this host's driver who is on its GPUs.
func (d *Daemon) holders(ctx context.Context, _ []string) (forge.GPULook, error) {
	return d.watcher.Now(ctx)
}

// foreignUse says which GPUs of a direct node are used by whom they do not belong to, in words by UUID: nothing may be placed on them. It tells of each
// process once, by an event of the site, and ends what attempts have left that are over. A look that says nothing changes nothing.
func (d *Daemon) foreignUse(ctx context.Context, c *Cluster, at nodeKey, look forge.GPULook) map[string]string {
	var uses []gpuUse
	if look.State == forge.NVMLOK {
		have, slots := d.holding(at)
		ours := func(h direct.Holder) bool { return filepath.Dir(h.RunDir) == filepath.Clean(c.RunRoot) }
		active := func(h direct.Holder) bool {
			a, ok := d.world.attempt(h.Run)
			return ok && ours(h) && a.Number == h.Attempt && a.State.Open()
		}
		over := func(h direct.Holder) bool { return ours(h) && d.attemptOver(ctx, h.Run, h.Attempt) }
		uses = foreign(look, have, direct.HolderOf, active, over)
		for i := range uses {
			if uses[i].Kind == useLeftover {
				if err := direct.End(uses[i].Holder); err != nil {
					d.log.Warn().Err(err).Int("pid", uses[i].PID).Msg("a leftover on a GPU is not killed")
				}
			}
		}
		for _, e := range d.strangers.take(at, uses, slots, time.Now()) {
			if err := d.db.AddEvent(ctx, e); err != nil && ctx.Err() == nil {
				d.log.Warn().Err(err).Msg("foreign use of a GPU not recorded")
			}
		}
	}
	return d.strangers.words(at)
}

// holding says which attempts hold a GPU of a node, by UUID; those on an instance of a GPU are on the GPU as well. slots are its GPUs.
func (d *Daemon) holding(at nodeKey) (have map[string][]attemptKey, slots map[string]int) {
	have, slots = map[string][]attemptKey{}, map[string]int{}
	d.world.mu.RLock()
	defer d.world.mu.RUnlock()
	gpus := d.world.nodes[at].GPUs
	for _, g := range gpus {
		if g.UUID != "" {
			slots[g.UUID] = g.Slot
		}
	}
	for _, a := range d.world.attempts {
		if a.Cluster != at.cluster || !a.State.Open() {
			continue
		}
		for _, sh := range a.Placement {
			if sh.Node != at.node {
				continue
			}
			for _, g := range gpus {
				if !slices.Contains(sh.Slots, g.Slot) {
					continue
				}
				for _, uuid := range []string{g.UUID, g.Parent} {
					if uuid != "" {
						have[uuid] = append(have[uuid], attemptKey{a.Run, a.Number})
					}
				}
			}
		}
	}
	return have, slots
}

// attemptOver says that an attempt is ours and has ended. One that nobody knows is not: it may be of a database that was restored since.
func (d *Daemon) attemptOver(ctx context.Context, run forge.RunID, number int) bool {
	if a, ok := d.world.attempt(run); ok {
		return number < a.Number || number == a.Number && !a.State.Open()
	}
	cctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := d.db.RunByID(cctx, run)
	return err == nil && number <= r.Attempt
}

// take folds what one look shows of a node into what is known, and returns the events of what is new.
func (s *strangers) take(at nodeKey, uses []gpuUse, slots map[string]int, now time.Time) (events []forge.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, after := s.m[at], map[useKey]*stranger{}
	for _, u := range uses {
		k := useKey{u.UUID, u.PID, u.StartTime}
		x := before[k]
		if x == nil {
			x = &stranger{since: now}
		}
		after[k] = x
		if x.said || u.Kind == useUnseen && now.Sub(x.since) < unseenPatience {
			continue
		}
		x.said, x.words = true, u.words()
		events = append(events, u.event(at, slots))
	}
	if s.m == nil {
		s.m = map[nodeKey]map[useKey]*stranger{}
	}
	s.m[at] = after
	return events
}

// words are those of what was told of, by UUID.
func (s *strangers) words(at nodeKey) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]string{}
	keys := make([]useKey, 0, len(s.m[at]))
	for k := range s.m[at] {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b useKey) int { return cmp.Or(cmp.Compare(a.uuid, b.uuid), cmp.Compare(a.pid, b.pid)) })
	for _, k := range keys {
		if x := s.m[at][k]; x.said && out[k.uuid] == "" {
			out[k.uuid] = x.words
		}
	}
	return out
}

// words are for everybody who sees the node: no names, and nobody's command.
func (u gpuUse) words() string {
	switch u.Kind {
	case useAstray:
		return fmt.Sprintf("process %d of a run that was given other GPUs uses it", u.PID)
	case useLeftover:
		return fmt.Sprintf("process %d of a run that has ended uses it, and is being ended", u.PID)
	case useUnseen:
		return fmt.Sprintf("the driver shows process %d on it, which this host does not have", u.PID)
	}
	return fmt.Sprintf("process %d, which is not forge's, uses it", u.PID)
}

// event is for operators.
func (u gpuUse) event(at nodeKey, slots map[string]int) forge.Event {
	gpu := "GPU " + u.UUID
	data := map[string]any{"cluster": string(at.cluster), "node": string(at.node), "gpu": u.UUID, "pid": u.PID, "kind": string(u.Kind)}
	if slot, ok := slots[u.UUID]; ok {
		gpu, data["slot"] = fmt.Sprintf("GPU %d (%s)", slot, u.UUID), slot
	}
	gpu += " of node " + string(at.node)
	e := forge.Event{Actor: actorForged, Type: forge.EventGPUForeign, Data: data, Reason: string(u.Kind)}
	who := fmt.Sprintf("process %d", u.PID)
	if u.Kind != useUnseen {
		name := "an unknown user"
		if u.PID == u.Holder.PID { // /proc told of it
			name = userName(u.UID)
			data["user"], data["command"] = name, u.Command
			who = fmt.Sprintf("process %d of %s (%s)", u.PID, name, u.Command)
		} else {
			who += " of " + name
		}
	}
	const kept = "; nothing is placed there while it lives"
	switch u.Kind {
	case useStranger:
		e.Message = who + " uses " + gpu + " and is not forge's: it is left alone" + kept
	case useUnseen:
		e.Message = "the driver shows " + who + " on " + gpu + ", and this host has no such process: it may live in another pid namespace" + kept
	case useAstray:
		data["run"], data["attempt"] = string(u.Run), u.Attempt
		e.Message = fmt.Sprintf("%s belongs to attempt %d of run %s and uses %s, which that run was not given: its program sets CUDA_VISIBLE_DEVICES by itself, or clears it%s", who, u.Attempt, u.Run, gpu, kept)
	case useLeftover:
		data["run"], data["attempt"] = string(u.Run), u.Attempt
		e.Message = fmt.Sprintf("%s is left of attempt %d of run %s, which has ended, and uses %s: it is killed", who, u.Attempt, u.Run, gpu)
	}
	return e
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return "uid " + strconv.Itoa(uid)
}
