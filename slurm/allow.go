package slurm

import (
	"fmt"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// option is one option of sbatch: how it is spelled, whether a value follows, and why users may never pass it, if so.
type option struct {
	name  string // long, without dashes
	short byte   // 0: none
	value valueKind
	never string // "": allowed where the site lists it
}

type valueKind int

const (
	noValue valueKind = iota
	needsValue
	mayHaveValue // only as --name=value
)

// Why an option is never passed on.
const (
	whyFlag  = "has a flag of its own: --%s"
	whyShape = "the gang's shape is forge's to keep: --nodes, --gpus-per-node, --cpus-per-gpu, --mem-per-gpu, --time"
	whyOrder = "forge decides when: run hold, run submit --after and --priority"
	whyEnv   = "jobs start from a cleared environment"
	whyFiles = "output is kept in the run directory: run logs shows it"
	whyName  = "forge finds its jobs by their name"
	whyHow   = "forge reads sbatch's answer itself"
	whyGang  = "a gang starts whole and ends whole"
	whyTries = "each attempt is a job of its own: forge starts the next one itself"
)

// options are those of sbatch from 22.05 to 26.05. sbatch accepts every unique beginning of a long name, so that the whole list has
// to be known to say what a shortened one means. An option that is not here is a site's plugin's: it must be spelled out in the
// allow-list.
var options = []option{
	{name: "account", short: 'A', value: needsValue, never: fmt.Sprintf(whyFlag, "account")},
	{name: "acctg-freq", value: needsValue},
	{name: "array", short: 'a', value: needsValue, never: "one attempt is one job"},
	{name: "batch", value: needsValue, never: whyGang},
	{name: "bb", value: needsValue},
	{name: "bbf", value: needsValue, never: "it names a file that sbatch reads"},
	{name: "begin", short: 'b', value: needsValue, never: whyOrder},
	{name: "chdir", short: 'D', value: needsValue, never: whyFiles},
	{name: "cluster", value: needsValue, never: "the job would go where forge does not look for it"},
	{name: "cluster-constraint", value: needsValue, never: "the job would go where forge does not look for it"},
	{name: "clusters", short: 'M', value: needsValue, never: "the job would go where forge does not look for it"},
	{name: "comment", value: needsValue},
	{name: "constraint", short: 'C', value: needsValue, never: fmt.Sprintf(whyFlag, "constraint")},
	{name: "consolidate-segments", value: noValue},
	{name: "container", value: needsValue, never: "runtime says which container ranks run in"},
	{name: "container-id", value: needsValue, never: "runtime says which container ranks run in"},
	{name: "contiguous", value: noValue},
	{name: "core-spec", short: 'S', value: needsValue},
	{name: "cores-per-socket", value: needsValue},
	{name: "cpu-freq", value: needsValue},
	{name: "cpus-per-gpu", value: needsValue, never: whyShape},
	{name: "cpus-per-task", short: 'c', value: needsValue, never: whyShape},
	{name: "deadline", value: needsValue},
	{name: "delay-boot", value: needsValue},
	{name: "dependency", short: 'd', value: needsValue, never: whyOrder},
	{name: "distribution", short: 'm', value: needsValue, never: whyGang},
	{name: "error", short: 'e', value: needsValue, never: whyFiles},
	{name: "exclude", short: 'x', value: needsValue, never: fmt.Sprintf(whyFlag, "exclude")},
	{name: "exclusive", value: mayHaveValue},
	{name: "export", value: needsValue, never: whyEnv},
	{name: "export-file", value: needsValue, never: whyEnv},
	{name: "extra", value: needsValue},
	{name: "extra-node-info", short: 'B', value: needsValue, never: whyShape},
	{name: "get-user-env", value: mayHaveValue, never: whyEnv},
	{name: "gid", value: needsValue, never: "jobs belong to the account that forge acts as"},
	{name: "gpu-bind", value: needsValue, never: "the shim gives each rank its GPU"},
	{name: "gpu-freq", value: needsValue},
	{name: "gpus", short: 'G', value: needsValue, never: whyShape},
	{name: "gpus-per-node", value: needsValue, never: whyShape},
	{name: "gpus-per-socket", value: needsValue, never: whyShape},
	{name: "gpus-per-task", value: needsValue, never: whyShape},
	{name: "gres", value: needsValue, never: whyShape},
	{name: "gres-flags", value: needsValue},
	{name: "help", short: 'h', value: noValue, never: whyHow},
	{name: "hint", value: needsValue},
	{name: "hold", short: 'H', value: noValue, never: whyOrder},
	{name: "ignore-pbs", value: noValue, never: whyHow},
	{name: "input", short: 'i', value: needsValue, never: whyFiles},
	{name: "job-name", short: 'J', value: needsValue, never: whyName},
	{name: "kill-on-invalid-dep", value: needsValue, never: whyOrder},
	{name: "licenses", short: 'L', value: needsValue},
	{name: "mail-type", value: needsValue, never: fmt.Sprintf(whyFlag, "mail-type")},
	{name: "mail-user", value: needsValue},
	{name: "mcs-label", value: needsValue},
	{name: "mem", value: needsValue, never: whyShape},
	{name: "mem-bind", value: needsValue},
	{name: "mem-per-cpu", value: needsValue, never: whyShape},
	{name: "mem-per-gpu", value: needsValue, never: whyShape},
	{name: "mincpus", value: needsValue, never: whyShape},
	{name: "network", value: needsValue},
	{name: "nice", value: mayHaveValue, never: whyOrder},
	{name: "no-bell", value: noValue, never: whyHow},
	{name: "no-kill", short: 'k', value: mayHaveValue, never: whyGang},
	{name: "no-requeue", value: noValue, never: whyTries},
	{name: "nodefile", short: 'F', value: needsValue, never: "it names a file that sbatch reads"},
	{name: "nodelist", short: 'w', value: needsValue, never: fmt.Sprintf(whyFlag, "nodelist")},
	{name: "nodes", short: 'N', value: needsValue, never: whyShape},
	{name: "ntasks", short: 'n', value: needsValue, never: whyShape},
	{name: "ntasks-per-core", value: needsValue, never: whyShape},
	{name: "ntasks-per-gpu", value: needsValue, never: whyShape},
	{name: "ntasks-per-node", value: needsValue, never: whyShape},
	{name: "ntasks-per-socket", value: needsValue, never: whyShape},
	{name: "oom-kill-step", value: mayHaveValue},
	{name: "open-mode", value: needsValue, never: whyFiles},
	{name: "output", short: 'o', value: needsValue, never: whyFiles},
	{name: "overcommit", short: 'O', value: noValue, never: whyShape},
	{name: "oversubscribe", short: 's', value: noValue},
	{name: "parsable", value: noValue, never: whyHow},
	{name: "partition", short: 'p', value: needsValue, never: fmt.Sprintf(whyFlag, "partition")},
	{name: "power", value: needsValue},
	{name: "prefer", value: needsValue},
	{name: "priority", value: needsValue, never: whyOrder},
	{name: "profile", value: needsValue},
	{name: "propagate", value: mayHaveValue},
	{name: "qos", short: 'q', value: needsValue, never: fmt.Sprintf(whyFlag, "qos")},
	{name: "quiet", short: 'Q', value: noValue, never: whyHow},
	{name: "reboot", value: noValue},
	{name: "requeue", value: noValue, never: whyTries},
	{name: "reservation", value: needsValue, never: fmt.Sprintf(whyFlag, "reservation")},
	{name: "resv-ports", value: mayHaveValue},
	{name: "segment", value: needsValue},
	{name: "signal", value: needsValue, never: "forge uses it to have a checkpoint saved before the limit"},
	{name: "sockets-per-node", value: needsValue},
	{name: "spread-job", value: noValue},
	{name: "spread-segments", value: noValue},
	{name: "stepmgr", value: noValue},
	{name: "switches", value: needsValue},
	{name: "test-only", value: noValue, never: whyHow},
	{name: "thread-spec", value: needsValue},
	{name: "threads-per-core", value: needsValue},
	{name: "time", short: 't', value: needsValue, never: whyShape},
	{name: "time-min", value: needsValue, never: "Slurm would shorten the limit that checkpoints are planned for"},
	{name: "tmp", value: needsValue},
	{name: "tres-bind", value: needsValue, never: "the shim gives each rank its GPU"},
	{name: "tres-per-task", value: needsValue, never: whyShape},
	{name: "uid", value: needsValue, never: "jobs belong to the account that forge acts as"},
	{name: "usage", value: noValue, never: whyHow},
	{name: "use-min-nodes", value: noValue, never: whyShape},
	{name: "verbose", short: 'v', value: noValue, never: whyHow},
	{name: "version", short: 'V', value: noValue, never: whyHow},
	{name: "wait", short: 'W', value: noValue, never: whyHow},
	{name: "wait-all-nodes", value: needsValue, never: whyGang},
	{name: "wckey", value: needsValue},
	{name: "wrap", value: needsValue, never: "the script is forge's: it claims the attempt before anything starts"},
}

// AllowName reads one entry of a site's allow-list: a long name, with or without its dashes.
func AllowName(entry string) (string, error) {
	name := strings.TrimPrefix(entry, "--")
	if !optionName(name) {
		return "", fmt.Errorf("%q: want the long name of an option of sbatch, like --comment", entry)
	}
	if i := slices.IndexFunc(options, func(o option) bool { return o.name == name }); i >= 0 {
		if options[i].never != "" {
			return "", fmt.Errorf("--%s cannot be allowed: %s", name, options[i].never)
		}
		return name, nil
	}
	// sbatch would take the beginning of a name for that name.
	if i := slices.IndexFunc(options, func(o option) bool { return strings.HasPrefix(o.name, name) }); i >= 0 {
		return "", fmt.Errorf("%q is the beginning of --%s; spell it out", entry, options[i].name)
	}
	return name, nil
}

func optionName(s string) bool {
	if len(s) < 2 || len(s) > 64 || s[0] == '-' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == ""
}

// maxRaw bounds what one run may pass.
const maxRaw = 64

// CheckRaw reads raw options as sbatch would, holds them against the allow-list, and gives them back in one form,
// --name=value, of which none can be taken for another or for the script.
func CheckRaw(raw, allow []string) ([]string, error) {
	if len(raw) > maxRaw {
		return nil, forge.Invalidf("batch.raw", "%d words; want at most %d", len(raw), maxRaw)
	}
	allowed := map[string]bool{}
	for _, a := range allow {
		if name, err := AllowName(a); err == nil {
			allowed[name] = true
		}
	}
	var out []string
	for i := 0; i < len(raw); i++ {
		word := raw[i]
		if strings.ContainsFunc(word, func(r rune) bool { return r < ' ' || r == 0x7f }) || len(word) > 1024 {
			return nil, forge.Invalidf("batch.raw", "%.80q: want at most 1024 bytes without control characters", word)
		}
		o, value, given, err := readOption(word, allowed)
		if err != nil {
			return nil, err
		}
		switch {
		case o.never != "":
			return nil, forge.Invalidf("batch.raw", "%s (--%s) is not passed on: %s", word, o.name, o.never)
		case !allowed[o.name]:
			return nil, forge.Invalidf("batch.raw", "--%s is not on this cluster's list; it has %s", o.name, allowedOptions(allow)).
				WithHint("an operator adds it to slurm.allow in forged's configuration")
		case o.value == noValue && given:
			return nil, forge.Invalidf("batch.raw", "--%s takes no value, and %q gives one", o.name, word)
		case o.value == needsValue && !given:
			if i+1 == len(raw) {
				return nil, forge.Invalidf("batch.raw", "--%s needs a value: --%s=VALUE", o.name, o.name)
			}
			i++
			value, given = raw[i], true
			if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) || len(value) > 1024 {
				return nil, forge.Invalidf("batch.raw", "%.80q: want at most 1024 bytes without control characters", value)
			}
		}
		if given {
			out = append(out, "--"+o.name+"="+value)
		} else {
			out = append(out, "--"+o.name)
		}
	}
	return out, nil
}

func allowedOptions(allow []string) string {
	if len(allow) == 0 {
		return "none"
	}
	out := make([]string, len(allow))
	for i, a := range allow {
		out[i] = "--" + strings.TrimPrefix(a, "--")
	}
	return strings.Join(out, ", ")
}

// readOption understands one word: --name, --name=value, a unique beginning of a name, -n, -nvalue.
func readOption(word string, allowed map[string]bool) (o option, value string, given bool, err error) {
	bad := func(format string, args ...any) (option, string, bool, error) {
		return option{}, "", false, forge.Invalidf("batch.raw", format, args...).WithHint("options of sbatch go after --, each as --name=value")
	}
	switch {
	case word == "--" || word == "-":
		return bad("%q is not an option", word)
	case strings.HasPrefix(word, "--"):
		name, v, given := strings.Cut(word[2:], "=")
		o, err := findOption(name, allowed)
		return o, v, given, err
	case strings.HasPrefix(word, "-"):
		for _, o := range options {
			if o.short != 0 && o.short == word[1] {
				if o.value == noValue && len(word) > 2 && o.never == "" {
					return bad("%q: want one option in a word", word)
				}
				return o, word[2:], len(word) > 2, nil
			}
		}
		return bad("%q is not an option of sbatch", word)
	}
	return bad("%.80q is not an option; sbatch would take it for its script", word)
}

// findOption resolves a name as getopt does: exact, or the beginning of exactly one.
func findOption(name string, allowed map[string]bool) (option, error) {
	if !optionName(name) && len(name) != 1 {
		return option{}, forge.Invalidf("batch.raw", "--%.80s is not an option of sbatch", name)
	}
	var found []option
	for _, o := range options {
		switch {
		case o.name == name:
			return o, nil
		case strings.HasPrefix(o.name, name):
			found = append(found, o)
		}
	}
	if allowed[name] { // of a plugin: whether a value follows is in how it is written
		return option{name: name, value: mayHaveValue}, nil
	}
	switch {
	case len(found) == 0:
		return option{}, forge.Invalidf("batch.raw", "--%s is not an option of sbatch that is known here, and not on this cluster's list", name)
	case len(found) == 1:
		return found[0], nil
	}
	names := make([]string, len(found))
	for i, o := range found {
		names[i] = "--" + o.name
	}
	// One that is never passed on may be meant, and another version of sbatch may have fewer names: nothing is guessed.
	return option{}, forge.Invalidf("batch.raw", "--%s may be each of %s; spell it out", name, strings.Join(names, ", "))
}
