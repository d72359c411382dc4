package daemon

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// onReload are the keys that a reload may change, as patterns of path.Match. A key that is not
// here needs a restart: whoever adds one decides, and a test asks.
var onReload = []string{
	"listen.socket", "listen.tcp", "listen.tls.*", "listen.tls.names.*", "listen.metrics", "listen.munge.*", "listen.munge.names.*", "limits.*", "data_roots.*", "dataset_root", "log.level", "log.format", "currency", "clusters.*.prices.*", "recipes_dir", "suites_dir", "gates_file", "gpus.rules_file", "gpus.app_patience", "gpus.dcgm_metrics", "gpus.job_metrics", "clusters.*.expect_gpus",
	"retry.backoff_min", "retry.backoff_max", "retry.fruitless_limit", "retry.pause_after", "retry.pause_window",
	"hooks.*", "hooks.*.*", "hooks.commands.*.*", "hooks.commands.*.*.*",
	"policy.*", "policy.licenses.*.*", "clusters.*.poll_every", "clusters.*.python", "clusters.*.env.*", "clusters.*.shim_socket", "clusters.*.user_programs", "clusters.*.log_limit", "clusters.*.labels.*", "clusters.*",
	"clusters.*.artifact_root", "clusters.*.runtime.*", "clusters.*.runtime.*.*",
	"clusters.*.slurm.partitions.*.*", "clusters.*.slurm.partitions.*.env.*", "clusters.*.slurm.allow.*", "clusters.*.slurm.network", "clusters.*.slurm.user_runtime", "clusters.*.slurm.gres",
	"clusters.*.slurm.owners.*.*", "clusters.*.slurm.max_pending",
}

// secret are the keys whose values are never shown.
var secret = []string{"hooks.proxy", "hooks.commands.*.argv.*", "clusters.*.env.*", "clusters.*.slurm.partitions.*.env.*"}

// change is one key whose value is another. One of was and is may be absent.
type change struct {
	key     string
	was, is *string
}

func (c change) String() string {
	word := func(v *string) string {
		switch {
		case v == nil:
			return "unset"
		case *v == "":
			return `""`
		}
		return *v
	}
	switch {
	case matches(secret, c.key) && c.was == nil:
		return c.key + ": set"
	case matches(secret, c.key) && c.is == nil:
		return c.key + ": removed"
	case matches(secret, c.key):
		return c.key + ": changed"
	}
	return c.key + ": " + word(c.was) + " → " + word(c.is)
}

// compare lists the keys that differ, in order. Clusters are compared by name; one that is new or
// gone is one change.
func compare(old, fresh Config) []change {
	a, b := flatten(old), flatten(fresh)
	var out []change
	keys := slices.Sorted(maps.Keys(a))
	for k := range b {
		if _, ok := a[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	whole := map[string]bool{} // clusters that are new or gone: their keys go without saying
	for _, k := range keys {
		was, had := a[k]
		is, has := b[k]
		c := change{key: k}
		if had {
			c.was = &was
		}
		if has {
			c.is = &is
		}
		if had && has && was == is || whole[clusterOf(k)] {
			continue
		}
		if had != has && k == clusterOf(k) {
			whole[k] = true
		}
		out = append(out, c)
	}
	return out
}

// clusterOf is clusters.NAME for each key of that cluster.
func clusterOf(key string) string {
	parts := strings.SplitN(key, ".", 3)
	if parts[0] != "clusters" || len(parts) < 2 {
		return ""
	}
	return parts[0] + "." + parts[1]
}

// reloadable refuses a change that takes a restart, with all of them named at once.
func reloadable(diff []change) error {
	var errs []error
	for _, c := range diff {
		if c.key == clusterOf(c.key) && c.is == nil {
			errs = append(errs, forge.Invalidf(c.key, "is gone; a cluster leaves with a restart, and only when none of its attempts is open"))
		} else if !matches(onReload, c.key) {
			errs = append(errs, forge.Invalidf(c.key, "%s; this needs a restart", strings.TrimPrefix(c.String(), c.key+": ")))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return (&forge.Error{Kind: forge.KindInvalid, Op: "reload", Err: errors.Join(errs...)}).
		WithHint("take the change back, or restart forged: attempts go on meanwhile")
}

func matches(patterns []string, key string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(strings.ReplaceAll(p, ".", "/"), strings.ReplaceAll(key, ".", "/"))
		return ok && err == nil
	})
}

// flatten writes a configuration as dotted keys.
func flatten(c Config) map[string]string {
	out := map[string]string{}
	flattenInto(out, "", reflect.ValueOf(c))
	return out
}

func flattenInto(out map[string]string, key string, v reflect.Value) {
	under := func(name string) string {
		return strings.TrimPrefix(key+"."+strings.NewReplacer(".", "_", "/", "_").Replace(name), ".")
	}
	if _, words := v.Interface().(fmt.Stringer); words {
		out[key] = fmt.Sprint(v.Interface())
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
			flattenInto(out, under(name), v.Field(i))
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			flattenInto(out, under(k.String()), v.MapIndex(k))
		}
	case reflect.Slice:
		for i := range v.Len() {
			name := fmt.Sprint(i)
			if cl, ok := v.Index(i).Interface().(ClusterConfig); ok {
				name = cl.Name
				out[under(name)] = cl.Kind
			}
			flattenInto(out, under(name), v.Index(i))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			flattenInto(out, key, v.Elem())
		}
	default:
		out[key] = fmt.Sprint(v.Interface())
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
