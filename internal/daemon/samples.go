package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

const (
	samplesRead    = 1 << 20  // at once
	maxSamplesRead = 16 << 20 // for one answer
)

// samples implements api.Samples.
type samples struct{ d *Daemon }

// Samples reads from the end of what the newest attempt left, and goes on with those before it only where all of a newer one was read:
// what they say of a step that was done again is not what the run became.
func (s samples) Samples(ctx context.Context, p forge.Principal, run string, q api.SamplesQuery) (api.RunSamples, error) {
	t := s.d.db.For(p)
	r, err := t.Run(ctx, run)
	if err != nil {
		return api.RunSamples{}, err
	}
	out := api.RunSamples{Run: r.Number, State: r.State}
	attempts, err := t.Attempts(ctx, r.ID)
	if err != nil {
		return out, err
	}
	look := sampleLook{step: q.Step, last: min(max(q.Last, 1), api.MaxSamples), done: map[int64]bool{}}
	for _, a := range slices.Backward(attempts) {
		if a.ExternalID == "" {
			continue
		}
		c, ok := s.d.live().clusters[a.Cluster]
		if !ok {
			return out, forge.Errorf(forge.KindUnavailable, "run.samples", "cluster %q is not configured any more", a.Cluster)
		}
		whole, err := look.back(ctx, c.Files, a)
		if err != nil {
			return out, err
		}
		if !whole {
			break
		}
	}
	slices.Reverse(look.found)
	out.Items, out.More, out.Bad = look.found, look.more, look.bad
	return out, nil
}

// sampleLook goes backwards through the samples of a run, the newest attempt first.
type sampleLook struct {
	step int64
	last int
	read int64 // bytes so far

	found []api.Sample // newest first
	done  map[int64]bool
	more  bool
	bad   int
	below bool
}

// streamReader is what reads a stream of an attempt where it lies.
type streamReader interface {
	Read(ctx context.Context, id forge.ExternalID, stream string, offset int64, limit int) (forge.Chunk, error)
}

// back reads the samples of one attempt from their end. whole says that earlier ones may be of interest: nothing of this one is left.
func (l *sampleLook) back(ctx context.Context, files streamReader, a forge.Attempt) (whole bool, err error) {
	head, err := files.Read(ctx, a.ExternalID, forge.StreamSamples, 0, 1)
	if err != nil {
		return false, err
	}
	seen := map[int64]bool{}
	var rest []byte // the beginning of a line whose first bytes lie before
	last := true    // what follows the last line break is a line that is being written
	for to := head.Size; to > 0; {
		if l.read >= maxSamplesRead {
			l.more = true
			return false, nil
		}
		from := max(0, to-samplesRead)
		chunk, err := files.Read(ctx, a.ExternalID, forge.StreamSamples, from, int(to-from))
		if err != nil {
			return false, err
		}
		if int64(len(chunk.Data)) < to-from { // it became shorter: somebody writes it anew
			return false, forge.Errorf(forge.KindUnavailable, "run.samples", "the samples of attempt %d change while they are read; ask again", a.Number)
		}
		l.read += int64(len(chunk.Data))
		lines := bytes.Split(append(chunk.Data, rest...), []byte("\n"))
		rest = nil
		if from > 0 {
			rest, lines = slices.Clone(lines[0]), lines[1:]
		}
		for _, line := range slices.Backward(lines) {
			if last { // torn, or empty behind the last line break
				last = false
				continue
			}
			if !l.take(line, a.Number, seen) {
				return l.below, nil
			}
		}
		to = from
	}
	for step := range seen {
		l.done[step] = true
	}
	return true, nil
}

// take adds a line, and says whether more are wanted.
func (l *sampleLook) take(line []byte, attempt int, seen map[int64]bool) bool {
	if len(bytes.TrimSpace(line)) == 0 {
		return true
	}
	s, ok := sampleOf(line)
	if !ok {
		l.bad++
		return true
	}
	s.Attempt = attempt
	switch {
	case l.done[s.Step]:
		return true
	case l.step >= 0 && s.Step > l.step:
		seen[s.Step] = true
		return true
	case l.step >= 0 && s.Step < l.step:
		l.below = len(l.found) == 0 // they are written in the order of steps: this attempt has not come to it again
		return false
	case len(l.found) >= l.last:
		l.more = true
		return false
	}
	seen[s.Step] = true
	l.found = append(l.found, s)
	return true
}

// sampleOf reads one line of samples.jsonl (docs/run-directory.md).
func sampleOf(line []byte) (api.Sample, bool) {
	var x struct {
		Step       *int64              `json:"step"`
		Prompt     json.RawMessage     `json:"prompt"`
		Completion json.RawMessage     `json:"completion"`
		Reward     *float64            `json:"reward"`
		Rewards    map[string]*float64 `json:"rewards"`
		Length     float64             `json:"length"`
	}
	if json.Unmarshal(line, &x) != nil || x.Step == nil {
		return api.Sample{}, false
	}
	s := api.Sample{Step: *x.Step, Prompt: said(x.Prompt), Completion: said(x.Completion), Reward: x.Reward, Tokens: int(x.Length)}
	for name, v := range x.Rewards {
		if v == nil { // it did not score this one
			continue
		}
		if s.Rewards == nil {
			s.Rewards = map[string]float64{}
		}
		s.Rewards[name] = *v
	}
	return s, true
}

// said is text as it is, and messages as JSON.
func said(v json.RawMessage) string {
	var text string
	if json.Unmarshal(v, &text) == nil {
		return text
	}
	return strings.ToValidUTF8(string(v), "\uFFFD")
}
