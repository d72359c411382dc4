package forge

import (
	"path"
	"slices"
	"strings"
	"time"
)

// Hook is told of events: a webhook, a mail address, or a program of the site. It belongs to a tenant and hears of that one, or to the site
// and hears of what is no tenant's.
type Hook struct {
	ID        HookID     `json:"id"`
	Tenant    TenantID   `json:"-"` // empty: the site's
	Site      bool       `json:"site,omitempty" doc:"The operators' own: told of what concerns the site and no tenant"`
	Name      string     `json:"name"`
	Kind      HookKind   `json:"kind" enum:"webhook,command,mail"`
	Target    string     `json:"target" doc:"URL, name of a program in the site's configuration, or address"`
	On        []string   `json:"on" doc:"Groups and event types"`
	Match     string     `json:"match,omitempty" doc:"Pattern of the model's or run's name, * for any part; empty: all"`
	Failures  bool       `json:"failures,omitempty" doc:"Not of runs that completed or were cancelled, nor of nodes that are well"`
	CreatedAt time.Time  `json:"created_at"`
	CreatedBy string     `json:"created_by"`
	PausedAt  *time.Time `json:"paused_at,omitempty" doc:"Nothing is sent since; absent: it works"`

	Waiting      int64      `json:"waiting" doc:"Deliveries that are still to be made"`
	LastOKAt     *time.Time `json:"last_ok_at,omitempty" doc:"Of the last delivery that was taken"`
	FailingSince *time.Time `json:"failing_since,omitempty" doc:"First failure since a delivery was taken"`
	LastError    string     `json:"last_error,omitempty" doc:"What was wrong with the newest try; absent where it was taken"`
}

// HookKind is how a hook is told.
type HookKind string

// The kinds.
const (
	HookWebhook HookKind = "webhook" // POST of JSON, signed
	HookCommand HookKind = "command" // a program of the site, JSON on its standard input
	HookMail    HookKind = "mail"    // through the site's sendmail
)

// HookKinds lists them.
var HookKinds = []HookKind{HookWebhook, HookCommand, HookMail}

// HookGroup is a word for several event types.
type HookGroup string

// The groups.
const (
	GroupStage      HookGroup = "stage"
	GroupRegression HookGroup = "regression"
	GroupRunEnd     HookGroup = "run_end"
	GroupHold       HookGroup = "hold"
	GroupNode       HookGroup = "node" // that is not well: the site's
	GroupBudget     HookGroup = "budget"
	GroupSchedule   HookGroup = "schedule"
)

// HookGroups lists them.
var HookGroups = []HookGroup{GroupStage, GroupRegression, GroupRunEnd, GroupHold, GroupNode, GroupBudget, GroupSchedule}

var groupTypes = map[HookGroup][]EventType{
	GroupStage:      {EventModelStage},
	GroupRegression: {EventEvalRegressed},
	GroupRunEnd:     {EventRunEnded},
	GroupHold:       {EventRunHeld},
	GroupNode:       {EventNodeChanged, EventNodeHeld, EventNodeReturned, EventNodeGPU, EventNodeWatch},
	GroupBudget:     {EventBudgetWarned, EventBudgetSpent},
	GroupSchedule:   {EventScheduleFired, EventScheduleSkipped},
}

// Types are the event types that a group stands for; nil for what is no group.
func (g HookGroup) Types() []EventType { return groupTypes[g] }

// siteRooms are what events are about that concern the site and no tenant; tenantRooms those that always concern a tenant.
var (
	siteRooms   = []string{"node.", "cluster.", "daemon.", "config.", "backup.", "plan."}
	tenantRooms = []string{"run.", "model.", "eval.", "dataset.", "schedule."}
)

func about(t EventType, rooms []string) bool {
	return slices.ContainsFunc(rooms, func(r string) bool { return strings.HasPrefix(string(t), r) })
}

// CheckHookOn holds that a hook asks for groups and event types that there are, and that come its way.
func CheckHookOn(on []string, site bool) error {
	if len(on) == 0 {
		return Invalidf("on", "names no event; want groups (%s) or event types", joinGroups())
	}
	for _, word := range on {
		types := HookGroup(word).Types()
		if types == nil && slices.Contains(EventTypes, EventType(word)) {
			types = []EventType{EventType(word)}
		}
		switch {
		case types == nil:
			return Invalidf("on", "%.80q is neither a group (%s) nor an event type", word, joinGroups()).WithHint("docs/hooks.md lists the event types; forgectl events shows those that come")
		case types[0] == EventHookFailed:
			return Invalidf("on", "%s tells no hook: it says that one could not be told", word)
		case !site && about(types[0], siteRooms):
			return Invalidf("on", "%s concerns the site and no tenant", word).WithHint("an operator adds it with --site")
		case site && about(types[0], tenantRooms):
			return Invalidf("on", "%s concerns a tenant, and hooks of the site hear of no tenant's events", word).
				WithHint("add the hook in the tenant: forgectl --tenant NAME hook add …")
		}
	}
	return nil
}

func joinGroups() string {
	names := make([]string, len(HookGroups))
	for i, g := range HookGroups {
		names[i] = string(g)
	}
	return strings.Join(names, ", ")
}

// Hears says whether the event is of those whom the hook belongs to and of a type that it asks for.
func (h *Hook) Hears(e *Event) bool {
	if e.Tenant != h.Tenant || e.Type == EventHookFailed {
		return false
	}
	asked := slices.ContainsFunc(h.On, func(word string) bool {
		if word == string(GroupNode) && (e.Type == EventNodeChanged || e.Type == EventNodeWatch) {
			return !wentWell(e) // a sick node is what the group is for
		}
		return word == string(e.Type) || slices.Contains(HookGroup(word).Types(), e.Type)
	})
	return asked && !(h.Failures && wentWell(e))
}

// wentWell says that an event which comes good or bad is of the good kind.
func wentWell(e *Event) bool {
	switch e.Type {
	case EventRunEnded, EventAttemptEnded:
		return e.Reason == string(EndCompleted) || e.Reason == string(EndCancelled) || strings.HasPrefix(e.Reason, "checkpointed")
	case EventNodeChanged:
		return e.Reason == string(NodeReady)
	case EventNodeWatch:
		return e.Reason == string(NVMLOK)
	}
	return false
}

// Matches says whether one of the names that an event is about fits the hook's pattern.
func (h *Hook) Matches(names []string) bool {
	return h.Match == "" || slices.ContainsFunc(names, func(n string) bool {
		ok, err := path.Match(h.Match, n)
		return ok && err == nil
	})
}

// DeliveryState is how far a delivery is.
type DeliveryState string

// The states; the last two are final.
const (
	DeliveryWaiting DeliveryState = "waiting" // to be made, or to be tried again
	DeliveryDone    DeliveryState = "delivered"
	DeliveryFailed  DeliveryState = "failed" // given up
)

// HookDelivery is one event on its way to one hook. Its id is the same at every try.
type HookDelivery struct {
	ID      string        `json:"id"`
	Event   int64         `json:"event_seq,omitempty" doc:"Seq of the event; absent for a test"`
	Type    EventType     `json:"type" doc:"Of the event; hook.test for a test"`
	State   DeliveryState `json:"state" enum:"waiting,delivered,failed"`
	Tries   int           `json:"tries"`
	MadeAt  time.Time     `json:"made_at"`
	TriedAt *time.Time    `json:"tried_at,omitempty" doc:"Of the newest try"`
	NextAt  *time.Time    `json:"next_at,omitempty" doc:"When it is tried again at the earliest"`
	Status  int           `json:"status,omitempty" doc:"HTTP status of the newest answer, or exit code of the program"`
	TookMS  int64         `json:"took_ms,omitempty" doc:"Of the newest try, in milliseconds"`
	Error   string        `json:"error,omitempty" doc:"What was wrong with it, in a sentence"`
	Output  string        `json:"output,omitempty" doc:"What a program or sendmail printed, at most 4 KiB; never what a webhook answered"`
}

// EventHookTest is the type of what `hook test` sends. No trail has it.
const EventHookTest EventType = "hook.test"
