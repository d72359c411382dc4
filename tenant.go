package forge

import (
	"slices"
	"time"
)

// Role says what a key or user may do. Viewer, member and admin act inside a tenant;
// operator runs the site.
type Role string

// The roles.
const (
	RoleViewer   Role = "viewer"   // reads everything of the tenant but keys and users of others
	RoleMember   Role = "member"   // registers data, submits runs, acts on its own
	RoleAdmin    Role = "admin"    // acts on every run of the tenant, manages its users and keys
	RoleOperator Role = "operator" // runs the site; the only one who may name another tenant
)

// Roles lists them, weakest first; each may do all that the ones before it may.
var Roles = []Role{RoleViewer, RoleMember, RoleAdmin, RoleOperator}

// Includes says whether r may do what needs the role at least. A role that does not exist
// includes nothing and is included by nothing.
func (r Role) Includes(least Role) bool {
	i, j := slices.Index(Roles, r), slices.Index(Roles, least)
	return i >= 0 && j >= 0 && i >= j
}

// DefaultTenant is the tenant that `forged init` makes.
const DefaultTenant = "default"

// Tenant owns datasets, runs, models and keys; it never sees another tenant's.
type Tenant struct {
	ID        TenantID   `json:"id"`
	Name      string     `json:"name"`
	CreatedAt time.Time  `json:"created_at"`
	Weight    float64    `json:"weight" doc:"Of its share of the site's GPU time; 1 is usual"`
	Quota     Quota      `json:"quota"`
	Budget    *Budget    `json:"budget,omitempty" doc:"Absent: none"`
	Use       *TenantUse `json:"use,omitempty" doc:"Absent where only what the tenant is was asked for"`

	LicenseAllow []string `json:"license_allow,omitzero" doc:"Licences that its inputs may have, patterns with *; empty: no such list; absent: the site's list holds"`
	LicenseDeny  []string `json:"license_deny,omitzero" doc:"Licences that they must not have; empty: no such list; absent: the site's list holds"`
}

// SiteLicenses alone, in the place of a tenant's list of licences, says that the site's holds.
const SiteLicenses = "site"

// The bounds of weights and quotas.
const (
	MinWeight = 0.001
	MaxWeight = 1_000_000
	MaxQuota  = 10_000_000 // GPUs or runs
)

// TenantUse is what a tenant has now and had lately.
type TenantUse struct {
	GPUs     int     `json:"gpus" doc:"That its runs have now"`
	Running  int     `json:"running" doc:"Runs that have GPUs"`
	Queued   int     `json:"queued" doc:"Runs that wait"`
	GPUHours float64 `json:"gpu_hours" doc:"Used lately, up to now: after each half-life of the site's policy what was used before counts half"`
	Share    float64 `json:"share" doc:"What it used lately over what its weight entitles it to of all use; 1 is exactly its share"`

	Budget *BudgetUse `json:"budget,omitempty" doc:"Absent: it has no budget"`
}

// User is a person or program that acts inside a tenant. The same person in two tenants is two
// users: what one of them may do says nothing about the other.
type User struct {
	ID          UserID     `json:"id"`
	Tenant      TenantID   `json:"-"`
	Name        string     `json:"name"`
	Role        Role       `json:"role" doc:"The most that any key of the user may do"`
	MaxPriority *int       `json:"max_priority,omitempty" doc:"Highest priority that the user may ask for, 0 to 100; absent: the site's default for the role"`
	UnixUID     *int64     `json:"unix_uid,omitempty" doc:"The uid that is this user on the daemon's unix socket"`
	Quota       Quota      `json:"quota"`
	CreatedAt   time.Time  `json:"created_at"`
	DisabledAt  *time.Time `json:"disabled_at,omitempty" doc:"No key of a disabled user works, nor its uid"`
}

// Key is an API key. The secret itself is shown once and stored only as a hash.
type Key struct {
	ID         KeyID      `json:"id"`
	Tenant     TenantID   `json:"-"`
	User       string     `json:"user"`
	Name       string     `json:"name,omitempty" doc:"What it is for, in its maker's words"`
	Role       Role       `json:"role"`
	Prefix     string     `json:"prefix" doc:"First characters of the secret, to tell keys apart"`
	CreatedAt  time.Time  `json:"created_at"`
	ExpiresAt  *time.Time `json:"expires_at,omitempty" doc:"Absent: never"`
	LastUsedAt *time.Time `json:"last_used_at,omitempty" doc:"To the minute; absent: never used"`
	RevokedAt  *time.Time `json:"revoked_at,omitempty"`
	Replaces   KeyID      `json:"replaces,omitempty" doc:"The key that this one was made from by a rotation"`
}

// Principal is who is asking: the answer of authentication, and the only thing handlers trust.
type Principal struct {
	Tenant      TenantID // where it acts
	Home        TenantID // where the user belongs; another than Tenant for an operator who named one
	User        string   // user name, for events
	UserID      UserID
	Key         KeyID // empty on the unix socket
	Role        Role
	MaxPriority *int // the user's own cap; nil: the site's default for the role
	Via         Via
	Once        Once // the request's Idempotency-Key; zero when it has none
}

// OperatorMark follows the name of an operator who acts in a tenant that is not its own. No user can be called that.
const OperatorMark = " (operator)"

// Actor is how events name the principal. An operator who acts in a tenant that is not its own is
// named as one: its user name may be somebody else's there.
func (p Principal) Actor() string {
	if p.Home != "" && p.Home != p.Tenant {
		return p.User + OperatorMark
	}
	return p.User
}

// Via says how a principal was recognised.
type Via string

// The ways.
const (
	ViaKey    Via = "key"    // an API key
	ViaSocket Via = "socket" // the kernel named the uid at the other end of the unix socket
)

// Once makes a request safe to repeat: whoever carries out the first stores, in the same transaction, what
// it made, and a second one with the same key is answered with that.
type Once struct {
	Op     string // operation id
	Key    string // of the client; empty: no promise was asked for
	Digest string // SHA-256 of the request; another one under the same key is a conflict
}
