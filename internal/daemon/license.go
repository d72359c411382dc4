package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/license"
	"github.com/forge-ml/forge-ml/store"
)

// settled has no empty lists: they are none.
func (c LicensesConfig) settled() LicensesConfig {
	if len(c.Allow) == 0 {
		c.Allow = nil
	}
	if len(c.Deny) == 0 {
		c.Deny = nil
	}
	return c
}

func (c LicensesConfig) check(bad func(field, format string, args ...any)) {
	for name, list := range map[string][]string{"policy.licenses.allow": c.Allow, "policy.licenses.deny": c.Deny} {
		if _, err := license.Patterns(name, list); err != nil {
			bad(name, "%v", reason(err))
		}
	}
}

// licenceLists are what holds for a tenant: each list is its own, or the site's where it has none of its own.
func (d *Daemon) licenceLists(t forge.Tenant) license.Lists {
	site := d.live().cfg.Policy.Licenses
	pick := func(own, sites []string) *license.List {
		list := license.List{Of: "tenant " + t.Name, Patterns: own}
		if own == nil {
			list = license.List{Of: "this site", Patterns: sites}
		}
		if len(list.Patterns) == 0 {
			return nil
		}
		return &list
	}
	return license.Lists{Allow: pick(t.LicenseAllow, site.Allow), Deny: pick(t.LicenseDeny, site.Deny)}
}

// tenantLists checks the lists that an operator gives a tenant.
func tenantLists(field string, list *[]string) (*[]string, error) {
	if list == nil || slices.Equal(*list, []string{forge.SiteLicenses}) {
		return list, nil
	}
	out, err := license.Patterns(field, *list)
	return &out, err
}

// judgeLicences holds inputs against the lists of the principal's tenant.
func (d *Daemon) judgeLicences(ctx context.Context, t *store.Tenant, p forge.Principal, inputs ...license.Input) (license.Verdict, error) {
	tenant, err := t.Tenant(ctx, string(p.Tenant))
	if err != nil {
		return license.Verdict{}, err
	}
	return license.Check(d.licenceLists(tenant), inputs...), nil
}

// licenceWarnings are what was read otherwise than it was given, and that no run may train on what was just registered.
func (d *Daemon) licenceWarnings(ctx context.Context, p forge.Principal, what, name, text string, notes []string) ([]string, error) {
	v, err := d.judgeLicences(ctx, d.db.For(p), p, license.Input{Name: what + " " + name, License: license.Stored(text)})
	if err != nil || v.Allowed {
		return notes, err
	}
	return append(notes, "no run may train on "+name+": "+v.String()), nil
}

// mayTrainOn refuses a run one of whose inputs has a licence that the tenant must not use. What other runs are still to make is not looked
// at: it has the licences of their inputs, which were. An eval trains nothing, and may look at what is there.
func (d *Daemon) mayTrainOn(ctx context.Context, p forge.Principal, spec *forge.RunSpec) error {
	if spec.Eval {
		return nil
	}
	inputs, fields, err := d.licencesOf(ctx, spec)
	if err != nil || len(inputs) == 0 {
		return err
	}
	v, err := d.judgeLicences(ctx, d.db.For(p), p, inputs...)
	if err != nil || v.Allowed {
		return err
	}
	of := v.Faults[0].Input
	i := slices.IndexFunc(inputs, func(in license.Input) bool { return in.Name == of })
	_, name, _ := strings.Cut(of, " ")
	hint := "use another version; or, where its licence was given wrongly, say what it is: forgectl dataset edit " + name + " --license SPDX"
	if fields[i] != "dataset" {
		hint = "use another model; or, where its licence was given wrongly, import it again with --license SPDX"
	}
	return forge.Invalidf(fields[i], "%s", v).WithHint("%s; what is allowed an operator decides: forgectl tenant edit --license-allow, --license-deny", hint)
}

// licencesOf are the inputs of a run that what it trains is made of, with the fields of the request that they came by.
func (d *Daemon) licencesOf(ctx context.Context, spec *forge.RunSpec) (inputs []license.Input, fields []string, err error) {
	add := func(field, what string, in *forge.InputRef) error {
		if in == nil || in.ID == "" || in.Pending() {
			return nil
		}
		var text string
		if field == "dataset" {
			v, err := d.db.DatasetVersionByID(ctx, forge.DatasetVersionID(in.ID))
			if err != nil {
				return err
			}
			text = v.License
		} else {
			v, err := d.db.ModelVersionByID(ctx, forge.ModelVersionID(in.ID))
			if err != nil {
				return err
			}
			text = v.License
		}
		name := what + " " + in.Name
		if !slices.ContainsFunc(inputs, func(have license.Input) bool { return have.Name == name }) {
			inputs, fields = append(inputs, license.Input{Name: name, License: license.Stored(text)}), append(fields, field)
		}
		return nil
	}
	for _, x := range []struct {
		field, what string
		in          *forge.InputRef
	}{{"dataset", "dataset", spec.Dataset}, {"base", "base", spec.Base}, {"base", "model", spec.Start}, {"reward_model", "reward model", spec.RewardModel}} {
		if err := add(x.field, x.what, x.in); err != nil {
			return nil, nil, fmt.Errorf("licence of %s: %w", x.what, err)
		}
	}
	return inputs, fields, nil
}

// trainedLicence is the licence of what a pinned spec trains: all of what it was made from.
func (d *Daemon) trainedLicence(ctx context.Context, spec *forge.RunSpec) (string, error) {
	inputs, _, err := d.licencesOf(ctx, spec)
	if err != nil {
		return "", err
	}
	all := make([]license.Expr, len(inputs))
	for i, in := range inputs {
		all[i] = in.License
	}
	return license.And(all...).String(), nil
}

// licenceOf is the licence of data with what its maker says of it (empty: nothing), which was made from other data: all of theirs, too.
// Both a registration and an edit ask here, so that nobody can edit away what the data was made from.
func (d *Daemon) licenceOf(ctx context.Context, given string, parents []forge.DatasetParent) (text string, notes []string, err error) {
	own, notes, err := license.Given(given)
	if err != nil {
		return "", nil, err
	}
	var all []license.Expr
	if given != "" || len(parents) == 0 {
		all = append(all, own)
	}
	for _, p := range parents {
		v, err := d.db.DatasetVersionByID(ctx, p.ID)
		if err != nil {
			return "", nil, fmt.Errorf("licence of %s@%d: %w", p.Name, p.Version, err)
		}
		all = append(all, license.Stored(v.License))
	}
	return license.And(all...).String(), notes, nil
}
