package main

import (
	"fmt"
	"strconv"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// terms prints where a waiting run stands, and what would let it start sooner.
func (p *printer) terms(w api.Why) {
	if w.Start != nil {
		p.fields("expected start", p.start(w.Start))
	}
	t := w.Terms
	if t == nil {
		return
	}
	tier := "within its tenant's guaranteed quota"
	if t.Tier == forge.TierBorrows {
		tier = "beyond a guaranteed quota"
	}
	p.fields("tier", tier, "share", termsShare(t), "class", "priority "+strconv.Itoa(t.Class), "lane", string(t.Lane), "rank", rankText(t), "waited", span(t.Waited.D()), "reservation", p.reserved(t.Reserved))
	if len(t.Filters) > 0 {
		p.line("nodes:")
		for _, f := range t.Filters {
			p.line("  %4d  %s%s", f.Nodes, clean(f.Why), freeText(f))
		}
	}
	for i, s := range w.Sooner {
		p.line("%s %s", [2]string{"sooner:", "       "}[min(i, 1)], clean(s))
	}
}

func termsShare(t *forge.Terms) string {
	if t.Share == 0 && t.UsedGPUH == 0 {
		return ""
	}
	return fmt.Sprintf("band %d: its tenant used %.1f GPU hours lately, %.2f times its share", t.Band, t.UsedGPUH, t.Share)
}

var sources = map[forge.WorkSource]string{forge.WorkProgress: "its own progress", forge.WorkProbe: "a guess until it reports progress", forge.WorkHistory: "how runs like it ended",
	forge.WorkIndex: "how long runs of its size last"}

func rankText(t *forge.Terms) string {
	if t.Rank == 0 {
		return ""
	}
	text := fmt.Sprintf("%.2f GPU hours", t.Rank)
	if from := sources[t.Source]; from != "" {
		text += ", from " + from
	}
	return text
}

func freeText(f forge.Filter) string {
	if f.Free == 0 {
		return ""
	}
	return fmt.Sprintf(" (%s free)", plural(f.Free, "GPU"))
}

func (p *printer) reserved(r *forge.Reserved) string {
	switch {
	case r == nil:
		return ""
	case r.At.IsZero():
		return fmt.Sprintf("in cluster %s; when is not known, since not all that runs has a time limit", r.Cluster)
	}
	return fmt.Sprintf("in cluster %s, %s at the latest", r.Cluster, inTime(p.now, r.At))
}

// start says when a run is expected to start, and how sure that is.
func (p *printer) start(s *api.Start) string {
	if s == nil {
		return ""
	}
	if !p.people() {
		if s.At.IsZero() {
			return ""
		}
		return s.At.UTC().Format(time.RFC3339)
	}
	if s.At.IsZero() {
		return s.Note
	}
	text := inTime(p.now, s.At)
	switch {
	case s.Low.IsZero() && s.High.IsZero(), s.High.Equal(s.Low):
		return text
	case s.High.IsZero():
		return text + " (or much later)"
	}
	return fmt.Sprintf("%s (%s to %s)", text, span(max(0, s.Low.Sub(p.now))), span(max(0, s.High.Sub(p.now))))
}

// inTime is a time to come, from now.
func inTime(now, t time.Time) string {
	if d := t.Sub(now); d >= time.Minute {
		return "in " + span(d)
	}
	return "now"
}
