package daemon

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// inputs are the versions that a run names; nil where it names none.
type inputs struct {
	dataset *forge.DatasetVersion
	base    *forge.ModelVersion
}

// ownModules begins the name of every module of the training package: what they can take is known here.
const ownModules = "forge_train."

// lookBefore says what a run would find out on its GPUs: by what registration has seen, and then by the real tokenizer.
func (d *Daemon) lookBefore(ctx context.Context, q api.SubmitRunRequest, spec forge.RunSpec, in inputs) ([]string, error) {
	own := strings.HasPrefix(spec.Entry.Module, ownModules)
	notes, err := rowsSuit(spec, in.dataset, own, q.NoCheck)
	if err != nil {
		return nil, err
	}
	if in.base != nil && in.base.Seen != nil {
		if err := d.mayTrust("base", spec.Base.Name, in.base.Seen); err != nil {
			return nil, err
		}
	}
	if !own || in.dataset == nil || in.base == nil || q.NoCheck {
		return notes, nil
	}
	if err := templateSuits(spec, in); err != nil {
		return nil, err
	}
	more, err := d.precheck(ctx, spec, in)
	return append(notes, more...), err
}

// rowsSuit refuses what registration found in the rows and a recipe of forge's own cannot make sense of, and warns of the rest.
func rowsSuit(spec forge.RunSpec, v *forge.DatasetVersion, own, noCheck bool) (notes []string, err error) {
	if v == nil || v.Seen == nil {
		return nil, nil
	}
	for _, f := range v.Seen.Findings {
		what := fmt.Sprintf("%s: %d of %d rows %s: %s", spec.Dataset.Name, f.Rows, v.Rows, f.Fault.Words(), strings.Join(f.First, ", "))
		if int64(len(f.First)) < f.Rows {
			what += " …"
		}
		ends := own && f.Fault.Ends(v.Kind)
		if !ends && !(own && f.Fault == forge.RowEmptyAnswer && !noCheck) {
			notes = append(notes, what)
			continue
		}
		hint := "correct them, and register them as a new version: forgectl dataset add " + v.Name + " PATH"
		if cmd := f.Fault.Remedy(); cmd != "" {
			hint = "leave them out: " + cmd + "; then: forgectl dataset add " + v.Name + " out.jsonl"
		}
		if !ends {
			hint += "; or train on them as they are: --no-check"
		}
		return nil, forge.Invalidf("dataset", "%s", what).WithHint("%s", hint)
	}
	return notes, nil
}

// templateParam says which chat template a run uses; the values are those of forge_train/template.py.
const templateParam = "train.chat_template"

// templateSuits refuses messages without a template to write them in.
func templateSuits(spec forge.RunSpec, in inputs) error {
	seen := in.base.Seen
	if seen == nil || seen.ChatTemplate || in.dataset.Seen == nil || !in.dataset.Seen.Messages {
		return nil
	}
	wanted, _ := spec.Params[templateParam].(string)
	if wanted == "" || wanted == "chatml" || wanted == "auto" && seen.ChatML {
		return nil
	}
	return forge.Invalidf("base", "the tokenizer of %s has no chat template, and %s is of messages", spec.Base.Name, spec.Dataset.Name).
		WithHint("--set %s=chatml uses the built-in ChatML; or put the template that it was made for into its directory as chat_template.jinja and import it again", templateParam)
}

// mayTrust refuses a base model that brings code, where the operator does not let such code run.
func (d *Daemon) mayTrust(field, what string, seen *forge.WeightsSeen) error {
	if !seen.RemoteCode || d.live().cfg.Policy.TrustRemoteCode {
		return nil
	}
	return forge.Invalidf(field, "%s brings Python code of its own (auto_map in its config), which this site does not run: policy.trust_remote_code is false", what).
		WithHint("use a model of an architecture that transformers has itself; or an operator who has read the code sets policy.trust_remote_code: true in config.yaml, then: forged reload")
}

// secretsFile holds a path against what can be said here. What lies there only the job may look at: it is its owner's.
func (d *Daemon) secretsFile(path string) (string, error) {
	const field = "secrets_file"
	if path == "" {
		return "", nil
	}
	if err := checkText(field, path, maxPath); err != nil {
		return "", err
	}
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return "", forge.Invalidf(field, "%q is not a plain absolute path", path).WithHint("it is read by the job, on its node: --secrets-file ~/.config/forge/secrets.env")
	}
	for _, own := range d.ownDirs() {
		if below(path, own) {
			return "", forge.Invalidf(field, "%q is in a directory of forged itself", path).WithHint("keep it in a home directory, mode 0600")
		}
	}
	return path, nil
}
