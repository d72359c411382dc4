package store

import (
	"fmt"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// StepRef begins the name of a run of the same submission, which has no number yet.
const StepRef = "step:"

// pins holds what a run waited for against what there is now, in the write that places it: the run that was to make an input has completed,
// and whether it registered anything is only known from then on. Without it nothing is launched; the run is held and says why.
func (t *tx) pins(r *runRow) (pinned map[string]any, lacks string, err error) {
	if err := t.specOf(r); err != nil {
		return nil, "", err
	}
	run, err := r.forge(&t.w.db.specs)
	if err != nil {
		return nil, "", err
	}
	for _, x := range run.Spec.Weights() {
		if !x.In.Pending() {
			continue
		}
		maker, err := t.run(x.In.Run)
		if forge.KindOf(err) == forge.KindNotFound && err != nil {
			return nil, fmt.Sprintf("its %s was to be what %s registers, and there is no such run any more", field(x.Field), x.In.Name), nil
		}
		if err != nil {
			return nil, "", err
		}
		v, err := t.modelOfRun(maker)
		if err != nil {
			return nil, "", err
		}
		if v == nil {
			return nil, fmt.Sprintf("its %s was to be what %s registers, which has registered nothing: forgectl model register NAME %d, then: forgectl run release %d",
				field(x.Field), maker.name(), maker.Number, r.Number), nil
		}
		if pinned == nil {
			pinned = map[string]any{}
		}
		pinned[x.Field] = v.Input().Name
	}
	return pinned, "", nil
}

// field is how people speak of an input.
func field(name string) string { return strings.ReplaceAll(name, "_", " ") }

// pinned tells what was found, once.
func (a *applying) pinned(r *runRow, names map[string]any) error {
	if len(names) == 0 || r.Attempt > 1 {
		return nil
	}
	var words []string
	for _, f := range []string{"base", "start", "reward_model", "model"} {
		if n, ok := names[f]; ok {
			words = append(words, fmt.Sprintf("%s %s", field(f), n))
		}
	}
	return a.runEvent(r, forge.Event{Type: forge.EventRunPinned, Attempt: r.Attempt, Data: map[string]any{"inputs": names},
		Message: fmt.Sprintf("%s has its inputs from runs before it: %s", r.name(), strings.Join(words, ", "))})
}
