package health

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Defaults of what a site may say for all rules.
const (
	DefaultPatience = time.Minute
	DefaultSettle   = 5 * time.Minute
)

// maxXID is above every number that NVIDIA has given out.
const maxXID = 9999

// Table is the rules in force: the built-in ones with the site's changes. It does not change, and is safe for concurrent use.
type Table struct {
	xids     map[int]forge.HealthRule
	unknown  forge.HealthRule
	gpu      []*signal
	node     []*signal
	manyRuns *signal
	again    *signal
	patterns []pattern
	patience time.Duration
	settle   time.Duration
}

// New makes the table. What a change does not say stays as it is. An error names the rule, the field and what is allowed.
func New(changes forge.HealthRules) (*Table, error) {
	t := &Table{xids: xidRules(), unknown: unknownXID, manyRuns: escalations[0].signal(), again: escalations[1].signal(),
		patience: DefaultPatience, settle: DefaultSettle}
	for _, r := range gpuSignals {
		t.gpu = append(t.gpu, r.signal())
	}
	for _, r := range nodeSignals {
		t.node = append(t.node, r.signal())
	}
	for i, c := range changes.Rules {
		if f := t.change(c); f != nil {
			return nil, f.invalid(fmt.Sprintf("rules[%d]", i))
		}
	}
	if changes.Patience < 0 || changes.Settle < 0 {
		return nil, forge.Invalidf("patience", "%s and %s: want 0 or more", changes.Patience, changes.Settle)
	}
	if changes.Patience > 0 {
		t.patience = changes.Patience
	}
	if changes.Settle > 0 {
		t.settle = changes.Settle
	}
	var f *fault
	if t.patterns, f = mergePatterns(changes.Patterns); f != nil {
		return nil, f.invalid("patterns" + f.at)
	}
	return t, nil
}

// fault is what is wrong with one field of a change.
type fault struct {
	at    string // which of a list: "[2]"
	field string
	err   error
}

func wrong(field, format string, args ...any) *fault {
	return &fault{field: field, err: fmt.Errorf(format, args...)}
}

func (f *fault) invalid(where string) *forge.Error {
	return forge.Invalidf(strings.TrimSuffix(where+"."+f.field, "."), "%w", f.err).WithHint("docs/gpu-health.md has every rule, field and value")
}

var xidRuleName = regexp.MustCompile(`^xid_([1-9][0-9]{0,3})$`)

// change merges one rule of the site's into the table: over the rule of that name, or over each of the XIDs that it lists.
func (t *Table) change(c forge.HealthRule) *fault {
	if f := checkChange(c); f != nil {
		return f
	}
	if c.Name == "" {
		for i, n := range c.XIDs {
			if n < 1 || n > maxXID {
				return wrong(fmt.Sprintf("xids[%d]", i), "%d is no XID; want 1 to %d", n, maxXID)
			}
			if f := t.changeXID(n, c); f != nil {
				return f
			}
		}
		return nil
	}
	if m := xidRuleName.FindStringSubmatch(c.Name); m != nil {
		n, _ := strconv.Atoi(m[1])
		return t.changeXID(n, c)
	}
	if c.Name == t.unknown.Name {
		return mergeEvent(&t.unknown, c)
	}
	for _, s := range slices.Concat(t.gpu, t.node, []*signal{t.manyRuns, t.again}) {
		if s.rule.Name == c.Name {
			return s.merge(c)
		}
	}
	return wrong("name", "there is no rule %q; there are xid_N, %s", c.Name, strings.Join(t.signalNames(), ", "))
}

func (t *Table) signalNames() []string {
	out := []string{t.unknown.Name}
	for _, s := range slices.Concat(t.gpu, t.node, []*signal{t.manyRuns, t.again}) {
		out = append(out, s.rule.Name)
	}
	return out
}

var (
	runActs  = []forge.RunAct{forge.RunGoesOn, forge.RunFails, forge.RunElsewhere}
	holdActs = []forge.HoldAct{forge.HoldNothing, forge.HoldWarn, forge.HoldDrain, forge.HoldGPU, forge.HoldNode}
)

const maxWait = 7 * 24 * time.Hour

// checkChange is what can be said of a change without knowing what it changes.
func checkChange(c forge.HealthRule) *fault {
	switch {
	case c.Name == "" && len(c.XIDs) == 0:
		return wrong("name", "is missing; want the name of a rule, or xids")
	case c.Name != "" && len(c.XIDs) > 0:
		return wrong("xids", "stands beside a name; a change is of one named rule, or of the xids that it lists")
	case c.Class != "" && !slices.Contains(classes, c.Class):
		return wrong("class", "%q: want one of %s", c.Class, strings.Join(classes, ", "))
	case c.Run != "" && !slices.Contains(runActs, c.Run):
		return wrong("run", "%q: want one of %s", c.Run, join(runActs))
	case c.Hold != "" && !slices.Contains(holdActs, c.Hold):
		return wrong("hold", "%q: want one of %s", c.Hold, join(holdActs))
	case c.For < 0 || c.For > maxWait:
		return wrong("for", "%s: want 0 to %s", c.For, maxWait)
	case c.ClearFor < 0 || c.ClearFor > maxWait:
		return wrong("clear_for", "%s: want 0 to %s", c.ClearFor, maxWait)
	case len(c.Words) > 300:
		return wrong("words", "is %d bytes long; want at most 300", len(c.Words))
	}
	return nil
}

func join[S ~string](set []S) string {
	out := make([]string, len(set))
	for i, s := range set {
		out[i] = string(s)
	}
	return strings.Join(out, ", ")
}

func (t *Table) changeXID(n int, c forge.HealthRule) *fault {
	r := t.XID(n)
	r.Name, r.XIDs = xidName(n), []int{n}
	if f := mergeEvent(&r, c); f != nil {
		return f
	}
	t.xids[n] = r
	return nil
}

// mergeEvent is for rules of XIDs, which come and have no value.
func mergeEvent(r *forge.HealthRule, c forge.HealthRule) *fault {
	for field, given := range map[string]bool{"above": c.Above != nil, "for": c.For != 0, "clear": c.Clear != nil} {
		if given {
			return wrong(field, "an XID comes or does not: there is no threshold to set; want run, hold, class, words or clear_for")
		}
	}
	merge(r, c)
	return nil
}

func merge(r *forge.HealthRule, c forge.HealthRule) {
	if c.Class != "" {
		r.Class = c.Class
	}
	if c.Run != "" {
		r.Run = c.Run
	}
	if c.Hold != "" {
		r.Hold = c.Hold
	}
	if c.Words != "" {
		r.Words = c.Words
	}
	if c.ClearFor != 0 {
		r.ClearFor = c.ClearFor
	}
	r.Source = "this site"
	if c.Source != "" {
		r.Source = c.Source
	}
}

func (s *signal) merge(c forge.HealthRule) *fault {
	for field, v := range map[string]*float64{"above": c.Above, "clear": c.Clear} {
		switch {
		case v == nil:
		case s.unit == "":
			return wrong(field, "%s is there or is not: there is no threshold to set", s.rule.Name)
		case !(*v >= s.least && *v <= s.most) && field == "above": // NaN is neither
			return wrong(field, "%g: want %g to %g (%s)", *v, s.least, s.most, s.unit)
		}
	}
	r := s.rule
	merge(&r, c)
	if c.Above != nil {
		r.Above = c.Above
		if c.Clear == nil && r.Clear != nil { // what was between the two stays between them
			r.Clear = ptr(*c.Above - (*s.rule.Above - *r.Clear))
		}
	}
	if c.Clear != nil {
		r.Clear = c.Clear
	}
	if r.Clear != nil && !(*r.Clear <= *r.Above) {
		return wrong("clear", "%g is above the threshold of %g: it would be over while it lasts", *r.Clear, *r.Above)
	}
	if c.For != 0 {
		if s.steps {
			return wrong("for", "%s grows at a moment, and does not last", r.Name)
		}
		r.For = c.For
	}
	if r.Run == forge.RunFails {
		return wrong("run", "fail is for XIDs of a program's own fault; of a reading want %s or %s", forge.RunGoesOn, forge.RunElsewhere)
	}
	s.rule = r
	return nil
}

// Rules lists the table: XIDs by number, the rule for all others, then signals.
func (t *Table) Rules() []forge.HealthRule {
	var out []forge.HealthRule
	for _, n := range slices.Sorted(maps.Keys(t.xids)) {
		out = append(out, t.xids[n])
	}
	out = append(out, t.unknown)
	for _, s := range slices.Concat(t.gpu, t.node, []*signal{t.manyRuns, t.again}) {
		out = append(out, s.rule)
	}
	return out
}

// Rule is one by its name; false: there is none.
func (t *Table) Rule(name string) (forge.HealthRule, bool) {
	for _, r := range t.Rules() {
		if r.Name == name {
			return r, true
		}
	}
	if m := xidRuleName.FindStringSubmatch(name); m != nil {
		n, _ := strconv.Atoi(m[1])
		return t.XID(n), true
	}
	return forge.HealthRule{}, false
}

// XID is the rule for a number; there is one for every number.
func (t *Table) XID(n int) forge.HealthRule {
	if r, ok := t.xids[n]; ok {
		return r
	}
	return t.unknown
}

// Patience is how long a run may take to end by itself after a fault of its own.
func (t *Table) Patience() time.Duration { return t.patience }

// Settle is how long a GPU must have been well before it may come back.
func (t *Table) Settle() time.Duration { return t.settle }
