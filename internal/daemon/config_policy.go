package daemon

import (
	"reflect"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

// PolicyConfig chooses the order of the queue: a preset, and what of it the site wants otherwise. Its keys are those of scheduler.Policy,
// which says what each means, but for the last two. Zero has a meaning in most of them, so that what is not given is a null pointer.
type PolicyConfig struct {
	Preset           string             `yaml:"preset"`
	Order            *scheduler.OrderBy `yaml:"order"`
	FairShare        *bool              `yaml:"fair_share"`
	HalfLife         *forge.Duration    `yaml:"half_life"`
	MaxBackfillTries *int               `yaml:"max_backfill_tries"`
	BackfillMargin   *forge.Duration    `yaml:"backfill_margin"`
	PreemptInOrder   *bool              `yaml:"preempt_in_order"`
	PreemptGap       *int               `yaml:"preempt_gap"`
	RestartCost      *forge.Duration    `yaml:"restart_cost"`
	Spare            *forge.Duration    `yaml:"spare"`
	SpareGrowth      *float64           `yaml:"spare_growth"`
	SpareMost        *forge.Duration    `yaml:"spare_most"`
	AgeAfter         *forge.Duration    `yaml:"age_after"`
	AgeShare         *float64           `yaml:"age_share"`
	SmallPrefix      *float64           `yaml:"small_prefix"`
	Guard            *float64           `yaml:"guard"`
	Mirror           *float64           `yaml:"mirror"`
	CriticalBonus    *float64           `yaml:"critical_bonus"`
	KnownFactor      *float64           `yaml:"known_factor"`
	BlindFactor      *float64           `yaml:"blind_factor"`
	ReplanEvery      *forge.Duration    `yaml:"replan_every"`
	Probe            *forge.Duration    `yaml:"probe"`
	Spread           *string            `yaml:"spread"`

	// TrustRemoteCode is not the queue's: base models may bring Python code that their ranks then run.
	TrustRemoteCode bool `yaml:"trust_remote_code"`
	// LoadTest is not the queue's either: what a training recipe leaves is loaded and used before it counts.
	LoadTest *bool `yaml:"load_test"`
	// Licenses are what inputs of runs may have, where a tenant has no lists of its own.
	Licenses LicensesConfig `yaml:"licenses"`
}

// LicensesConfig are lists of SPDX ids, with * for any part of one. An empty one is no list.
type LicensesConfig struct {
	Allow []string `yaml:"allow"`
	Deny  []string `yaml:"deny"`
}

func (c PolicyConfig) loadTest() bool { return c.LoadTest == nil || *c.LoadTest }

// sitePresets are the presets that a site may run by. The others let somebody wait for ever, and are there to be compared with.
var sitePresets = []string{"default", "fair", "fifo"}

// policy is the preset with the site's own values in it.
func (c PolicyConfig) policy() (scheduler.Policy, error) {
	p := scheduler.DefaultPolicy()
	if c.Preset != "" {
		if !slices.Contains(sitePresets, c.Preset) {
			why := "is not a policy"
			if slices.Contains(scheduler.Presets(), c.Preset) {
				why = "starves runs and is for forgectl simulate --policy"
			}
			return p, forge.Invalidf("preset", "%q %s; want %s", c.Preset, why, strings.Join(sitePresets, ", "))
		}
		var err error
		if p, err = scheduler.Preset(c.Preset); err != nil {
			return p, err
		}
	}
	// Configurations of before there were presets say who is stopped by the gap alone.
	if c.PreemptGap != nil && c.PreemptInOrder == nil {
		p.PreemptInOrder = false
	}
	given, into := reflect.ValueOf(c), reflect.ValueOf(&p).Elem()
	for i := range given.NumField() {
		if v := given.Field(i); v.Kind() == reflect.Pointer && !v.IsNil() {
			if f := into.FieldByName(given.Type().Field(i).Name); f.IsValid() {
				f.Set(v.Elem().Convert(f.Type()))
			}
		}
	}
	return p, nil
}

// policyConfig spells a policy out, key by key, as config show prints it.
func policyConfig(p scheduler.Policy) PolicyConfig {
	c := PolicyConfig{Preset: p.Preset}
	from, into := reflect.ValueOf(p), reflect.ValueOf(&c).Elem()
	for i := range into.NumField() {
		f, is := into.Field(i), from.FieldByName(into.Type().Field(i).Name)
		if f.Kind() == reflect.Pointer && is.IsValid() {
			v := reflect.New(f.Type().Elem())
			v.Elem().Set(is.Convert(f.Type().Elem()))
			f.Set(v)
		}
	}
	return c
}

// setHalfLife has what tenants used count less as fast as the settings say. Also a site that shares nothing yet keeps the account, for
// the day it does.
func (d *Daemon) setHalfLife(s *settings) {
	h := s.policy.HalfLife
	if h <= 0 {
		h = forge.DefaultHalfLife
	}
	d.db.SetHalfLife(h)
	d.world.setHalfLife(h)
}
