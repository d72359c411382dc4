package forge

import "time"

// Role says what a key or user may do. Viewer, member and admin act inside a tenant;
// operator runs the site.
type Role string

// The roles. Issue 2 hands out member and operator; viewer and admin come with the front door.
const (
	RoleViewer   Role = "viewer"
	RoleMember   Role = "member"
	RoleAdmin    Role = "admin"
	RoleOperator Role = "operator"
)

// DefaultTenant is the tenant that `forged init` makes.
const DefaultTenant = "default"

// Tenant owns datasets, runs, models and keys; it never sees another tenant's.
type Tenant struct {
	ID        TenantID  `json:"id"`
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"created_at"`
}

// User is a person or program that acts inside a tenant.
type User struct {
	ID        UserID    `json:"id"`
	Tenant    TenantID  `json:"-"`
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"created_at"`
}

// Key is an API key. The secret itself is shown once and stored only as a hash.
type Key struct {
	ID        KeyID      `json:"id"`
	Tenant    TenantID   `json:"-"`
	User      string     `json:"user"`
	Role      Role       `json:"role"`
	Prefix    string     `json:"prefix" doc:"First characters of the secret, to tell keys apart"`
	CreatedAt time.Time  `json:"created_at"`
	RevokedAt *time.Time `json:"revoked_at,omitempty"`
}

// Principal is who is asking: the answer of authentication, and the only thing handlers trust.
type Principal struct {
	Tenant TenantID
	User   string // user name, for events
	UserID UserID
	Key    KeyID
	Role   Role
}
