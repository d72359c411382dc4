package daemon

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/artefact"
	"github.com/forge-ml/forge-ml/store"
)

// adapterDir is an adapter as peft leaves it.
func adapterDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	header := `{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`
	put(t, filepath.Join(dir, "adapter_config.json"), `{"peft_type":"LORA","base_model_name_or_path":"/x"}`)
	put(t, filepath.Join(dir, "adapter_model.safetensors"), string(binary.LittleEndian.AppendUint64(nil, uint64(len(header))))+header+"\x00\x00\x00\x00")
	return dir
}

func TestWeightsFromElsewhereComeInAsUnverifiedAndAreReadAgain(t *testing.T) {
	r := start(t, 1)
	base := r.imports(t, "tiny", nil)
	register := func(p forge.Principal, q api.RegisterModelRequest) (forge.ModelVersion, error) {
		return models{r.Daemon}.RegisterModel(t.Context(), p, q)
	}
	dir := adapterDir(t)
	member := r.op
	member.Role = forge.RoleMember
	for what, c := range map[string]struct {
		p    forge.Principal
		q    api.RegisterModelRequest
		kind forge.Kind
		word string
	}{
		"without saying it":        {r.op, api.RegisterModelRequest{Name: "bot", Path: dir, Base: "tiny"}, forge.KindInvalid, "nobody can say which data"},
		"a member":                 {member, api.RegisterModelRequest{Name: "bot", Path: dir, Base: "tiny", Unverified: true}, forge.KindForbidden, "admin"},
		"an adapter over nothing":  {r.op, api.RegisterModelRequest{Name: "bot", Path: dir, Unverified: true}, forge.KindInvalid, "which base model"},
		"a model over a base":      {r.op, api.RegisterModelRequest{Name: "bot", Path: baseModel(t, nil), Base: "tiny", Unverified: true}, forge.KindInvalid, "whole model"},
		"a run and a path":         {r.op, api.RegisterModelRequest{Name: "bot", Path: dir, Run: "1", Unverified: true}, forge.KindInvalid, "one or the other"},
		"neither":                  {r.op, api.RegisterModelRequest{Name: "bot"}, forge.KindInvalid, "run"},
		"a run that is unverified": {r.op, api.RegisterModelRequest{Name: "bot", Run: "1", Unverified: true}, forge.KindInvalid, "go with a path"},
		"forged's own directory":   {r.op, api.RegisterModelRequest{Name: "bot", Path: r.live().cfg.StateDir, Unverified: true}, forge.KindInvalid, "forged itself"},
	} {
		if _, err := register(c.p, c.q); forge.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.word) {
			t.Errorf("%s: %v", what, err)
		}
	}
	v, err := register(r.op, api.RegisterModelRequest{Name: "bot", Path: dir, Base: "tiny", Unverified: true, Reason: " from the old cluster "})
	if err != nil {
		t.Fatal(err)
	}
	if l := v.Lineage; v.Kind != forge.ModelTrained || v.Stage != forge.StageStaging || !l.Unverified || l.Run != "" || l.Reason != "from the old cluster" || l.BaseSHA256 != base.SHA256 || v.License != base.License || !v.IsAdapter() {
		t.Errorf("%+v, %+v", v, l)
	}
	whole, err := register(r.op, api.RegisterModelRequest{Name: "whole", Path: baseModel(t, nil), Unverified: true, License: "MIT"})
	if err != nil || whole.License != "MIT" || whole.Seen == nil {
		t.Errorf("%+v, %v", whole, err)
	}

	look := func() (bool, string) {
		t.Helper()
		f, err := r.rehash(t.Context(), r.op, v)
		if err != nil {
			t.Fatal(err)
		}
		if f.Facts["sha256"] != v.SHA256 || f.Facts["bytes"] == "" || f.Facts["seconds"] == "" || f.Facts["read_at"] == "" || f.Facts["base"] != "tiny@1" || f.Facts["base_sha256"] != base.SHA256 {
			t.Errorf("%v", f.Facts)
		}
		return f.OK, f.Words
	}
	if ok, words := look(); !ok {
		t.Error(words)
	}
	put(t, filepath.Join(base.Manifest.Root, "evil.py"), "x")
	if ok, words := look(); ok || !strings.Contains(words, "tiny@1") || !strings.Contains(words, "evil.py") {
		t.Error(words)
	}
	if err := os.Remove(filepath.Join(dir, "adapter_model.safetensors")); err != nil {
		t.Fatal(err)
	}
	if ok, words := look(); ok || !strings.Contains(words, "bot@1") || !strings.Contains(words, "it is gone") {
		t.Error(words)
	}
	seen, err := models{r.Daemon}.VerifyModel(t.Context(), r.op, forge.Ref{Name: "bot"})
	if err != nil || seen.Intact || len(seen.Weights) != 2 || len(seen.Weights[0].Differs) != 1 || len(seen.Weights[1].Differs) != 1 {
		t.Errorf("%+v, %v", seen, err)
	}
}

func TestAnOutputThatCannotBeCopiedEndsItsRunAndIsRegisteredLater(t *testing.T) {
	old := keepTries
	keepTries = 0
	t.Cleanup(func() { keepTries = old })
	root := filepath.Join(t.TempDir(), "kept")
	r := start(t, 1, func(o *Options) { o.Clusters[0].ArtifactRoot = root })
	run, dir := r.leaves(t, "bot")
	events, err := r.db.For(r.op).Events(t.Context(), store.EventFilter{Run: run.ID}, 100)
	if err != nil || run.Model != "" || !strings.Contains(events[len(events)-1].Message, "its output could not be copied") {
		t.Fatalf("%+v; %v", run, err)
	}
	register := func() (forge.ModelVersion, error) {
		return models{r.Daemon}.RegisterModel(t.Context(), r.op, api.RegisterModelRequest{Name: "bot", Run: fmt.Sprint(run.Number)})
	}
	if _, err := register(); forge.KindOf(err) != forge.KindUnavailable {
		t.Errorf("%v", err)
	}
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	v, err := register()
	if err != nil || v.Manifest.Root != artefact.Place(root, string(r.op.Tenant), v.SHA256) {
		t.Fatalf("%+v, %v", v, err)
	}
	if !isThere(filepath.Join(dir, "output")) {
		t.Error("the output itself is gone")
	}
}
