package api

import (
	forge "github.com/forge-ml/forge-ml"
)

// CreateTenantRequest makes a tenant.
type CreateTenantRequest struct {
	Name string `json:"name" maxLength:"64" doc:"1 to 64 characters of a-z, 0-9, '.', '-', '_'"`
}

// UpdateTenantRequest changes what is given.
type UpdateTenantRequest struct {
	Weight     *float64 `json:"weight,omitempty" minimum:"0.001" maximum:"1000000" doc:"Of its share of the site's GPU time; 1 is usual"`
	GPUs       *int     `json:"gpus,omitempty" minimum:"0" maximum:"10000000" doc:"Guaranteed: lent to others while idle, and taken back by preemption; 0: none"`
	MaxGPUs    *int     `json:"max_gpus,omitempty" minimum:"0" maximum:"10000000" doc:"Never more at once; 0: no bound"`
	MaxRunning *int     `json:"max_running,omitempty" minimum:"0" maximum:"10000000" doc:"Runs at once; 0: no bound"`
	MaxQueued  *int     `json:"max_queued,omitempty" minimum:"0" maximum:"10000000" doc:"Runs that wait; 0: no bound"`
	EvalGPUs   *int     `json:"eval_gpus,omitempty" minimum:"0" maximum:"10000000" doc:"For evals at once; 0: no bound"`

	LicenseAllow *[]string `json:"license_allow,omitempty" maxItems:"200" doc:"SPDX ids that inputs may have, * for any part of one; [] takes the list away, [\"site\"] alone has the site's hold again"`
	LicenseDeny  *[]string `json:"license_deny,omitempty" maxItems:"200" doc:"SPDX ids that inputs must not have; [] and [\"site\"] likewise"`

	Budget         *float64            `json:"budget,omitempty" minimum:"0" maximum:"1000000000000" doc:"What may be spent in a period, in the site's currency; 0: no such budget"`
	BudgetGPUHours *float64            `json:"budget_gpu_hours,omitempty" minimum:"0" maximum:"1000000000000" doc:"The same in GPU-hours; 0: no such budget"`
	BudgetPeriod   *forge.BudgetPeriod `json:"budget_period,omitempty" enum:"month,week,total" doc:"How often it is renewed, at midnight UTC, weeks on Monday; month unless said otherwise"`
	BudgetWarn     *float64            `json:"budget_warn,omitempty" minimum:"0.01" maximum:"1" doc:"Part of the budget at which an event warns; 0.8 unless said otherwise"`
}

// CreateUserRequest makes a user of the tenant.
type CreateUserRequest struct {
	Name        string     `json:"name" maxLength:"64"`
	Role        forge.Role `json:"role,omitempty" enum:"viewer,member,admin,operator" doc:"Default member"`
	MaxPriority *int       `json:"max_priority,omitempty" minimum:"0" maximum:"100" doc:"Highest priority that the user may ask for; absent: the site's default"`
	UnixUID     *int64     `json:"unix_uid,omitempty" minimum:"0" maximum:"4294967294" doc:"The uid that is this user on the unix socket"`
}

// UpdateUserRequest changes what is given.
type UpdateUserRequest struct {
	Role        *forge.Role `json:"role,omitempty" enum:"viewer,member,admin,operator"`
	MaxPriority *int        `json:"max_priority,omitempty" minimum:"-1" maximum:"100" doc:"-1: the site's default again"`
	UnixUID     *int64      `json:"unix_uid,omitempty" minimum:"-1" maximum:"4294967294" doc:"-1: none any more"`
	MaxGPUs     *int        `json:"max_gpus,omitempty" minimum:"0" maximum:"10000000" doc:"GPUs of its runs at once; 0: no bound"`
	MaxRunning  *int        `json:"max_running,omitempty" minimum:"0" maximum:"10000000" doc:"Runs at once; 0: no bound"`
	MaxQueued   *int        `json:"max_queued,omitempty" minimum:"0" maximum:"10000000" doc:"Runs that wait; 0: no bound"`
}

// DisableUserRequest says why.
type DisableUserRequest struct {
	Reason forge.Why `json:"reason,omitempty" enum:"requested,leaked,left,unused" doc:"Default requested"`
}

// CreateKeyRequest makes a key for a user of the tenant. An admin's request makes the user where there is none.
type CreateKeyRequest struct {
	User      string         `json:"user,omitempty" maxLength:"64" doc:"Default: who asks"`
	Role      forge.Role     `json:"role,omitempty" enum:"viewer,member,admin,operator" doc:"At most the user's; default the user's"`
	Name      string         `json:"name,omitempty" maxLength:"64" doc:"What it is for"`
	ExpiresIn forge.Duration `json:"expires_in,omitzero" doc:"Default: never; durations as everywhere: 90 is minutes, 30-0 is days, 720h"`
}

// RotateKeyRequest says how long the old key goes on working.
type RotateKeyRequest struct {
	Overlap forge.Duration `json:"overlap,omitzero" doc:"Default 0: the old key ends at once"`
}

// RevokeKeyRequest says why.
type RevokeKeyRequest struct {
	Reason forge.Why `json:"reason,omitempty" enum:"requested,leaked,left,unused" doc:"Default requested"`
}

// CreatedKey carries the secret, this once.
type CreatedKey struct {
	forge.Key
	Secret string `json:"secret,omitempty" doc:"Absent when a repeated request is answered: it was shown to the first"`
}

// LoginMungeRequest is a credential of munge, whose payload is MungePayload of the server's address.
type LoginMungeRequest struct {
	Credential string `json:"credential" maxLength:"4096" doc:"What munge printed: MUNGE:…:"`
}

// MungePayload is what a credential for a login says, and nothing else: that it is one, and for which server. A
// credential that was made for anything else, or that another server was given, opens nothing here.
func MungePayload(address string) string { return "forge-ml login 1 " + address }

// MungeKeyName is what keys from a login by munge are called.
const MungeKeyName = "munge login"
