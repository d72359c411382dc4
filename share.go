package forge

import (
	"math"
	"time"
)

// DefaultHalfLife is how fast GPU time that was used counts less where nobody says otherwise.
const DefaultHalfLife = 7 * 24 * time.Hour

// Usage is GPU time that fades: after each half-life what was had before counts half.
type Usage struct {
	MS float64   `json:"gpu_ms"` // as of AsOf
	At time.Time `json:"at,omitzero"`
}

// AsOf is what is left of it at a time. Before At it is what it was then.
func (u Usage) AsOf(now time.Time, halfLife time.Duration) float64 {
	if u.MS == 0 {
		return 0
	}
	return u.MS * math.Exp2(-max(0, now.Sub(u.At).Seconds())/halfLife.Seconds())
}

// Add counts what an attempt had, as of its end. Adding is the same as having kept count all the time: what was had earlier
// has faded more.
func (u Usage) Add(use GPUUse, halfLife time.Duration) Usage {
	at := use.To
	if u.At.After(at) { // another one ended later and was heard of before
		at = u.At
	}
	return Usage{MS: u.AsOf(at, halfLife) + use.Faded(at, halfLife), At: at}
}

// Faded is what the use counts at a time after its end, in GPU milliseconds.
func (u GPUUse) Faded(now time.Time, halfLife time.Duration) float64 {
	tau := halfLife.Seconds() / math.Ln2
	had := -math.Expm1(-max(0, u.To.Sub(u.From).Seconds()) / tau)
	return 1000 * tau * float64(u.GPUs) * had * math.Exp(-max(0, now.Sub(u.To).Seconds())/tau)
}

// TenantAccount is what a tenant is entitled to, and what it had in attempts that ended.
type TenantAccount struct {
	Tenant TenantID
	Weight float64
	Quota  Quota
	Used   Usage
	Budget Budget
	Spent  Spending // of the period of the last attempt that ended, in attempts that ended
}

// UserAccount is the quota of a user; a quota of nothing takes it away.
type UserAccount struct {
	Tenant TenantID
	UserQuota
}

// Shares says, tenant by tenant, how much of its share each had: what it used, over the part of all use that its weight entitles it
// to. 1 is exactly its share; one that used nothing has 0. Weights of tenants that used nothing entitle to nothing unless they have runs now: the part of
// who is away is free.
func Shares(all []TenantShare, present func(TenantID) bool) []float64 {
	var used, weight float64
	for _, t := range all {
		if t.Used > 0 || present(t.Tenant) {
			used, weight = used+float64(t.Used), weight+t.weight()
		}
	}
	out := make([]float64, len(all))
	for i, t := range all {
		if t.Used > 0 {
			out[i] = float64(t.Used) / (used * t.weight() / weight)
		}
	}
	return out
}

func (t TenantShare) weight() float64 {
	if t.Weight <= 0 {
		return 1
	}
	return t.Weight
}
