package health

import (
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Table is the rules in force: the built-in ones with the site's changes.
type Table struct{}

// New makes the table. An error names the rule, the field and what is allowed.
func New(changes forge.HealthRules) (*Table, error) { return &Table{}, nil }

// Parse reads a site's changes from YAML. Unknown keys are errors.
func Parse(data []byte) (forge.HealthRules, error) { return forge.HealthRules{}, nil }

// Rules lists the table, for people and for tests.
func (t *Table) Rules() []forge.HealthRule { return nil }

// XID is the rule for a number; there is one for every number.
func (t *Table) XID(n int) forge.HealthRule { return forge.HealthRule{} }

// Patience is how long a run may take to end by itself after a fault of its own.
func (t *Table) Patience() time.Duration { return time.Minute }

// Match finds the line that explains a failure best, of the last lines of a rank's output; nil: none does.
func (t *Table) Match(rank int, lines []string) *forge.PatternHit { return nil }

// Watch begins to remember a node.
func (t *Table) Watch() *Node { return &Node{} }

// Node is what is remembered of one node's GPUs.
type Node struct{}

// Seen is what is known beside a look.
type Seen struct {
	Expected []string        // UUIDs that the node has; one that is not in a good look is missing
	Busy     map[string]bool // UUIDs that attempts of ours hold: memory that is used on others is nobody's
	Foreign  map[string]string
}

// Look judges a look. Only news are returned: conditions that began, and those that ended (Over).
func (n *Node) Look(l forge.GPULook, s Seen) []forge.Finding { return nil }

// Event judges a word of the driver.
func (n *Node) Event(e forge.GPUEvent) []forge.Finding { return nil }

// MayReturn says whether a GPU (or a node, uuid "") that was held back is well: its condition is over, and where its rule asks for a reset there was
// one since. why is what is still missing.
func (n *Node) MayReturn(hold forge.HoldAct, uuid string, since, now time.Time) (ok bool, why string) {
	return false, "not checked"
}
