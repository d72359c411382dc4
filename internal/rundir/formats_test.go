package rundir_test

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

func safetensors(header string, data int) string {
	return string(binary.LittleEndian.AppendUint64(nil, uint64(len(header)))) + header + strings.Repeat("w", data)
}

func torchFile(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	f, err := z.CreateHeader(&zip.FileHeader{Name: "archive/data.pkl", Method: zip.Store}) // as torch does
	if err == nil {
		_, err = f.Write([]byte(strings.Repeat("tensor", 500)))
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

const oneTensor = `{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}`

// trained is what one of forge's own recipes leaves with two ranks.
func trained(t *testing.T) map[string]string {
	torch := torchFile(t)
	return map[string]string{
		"adapter_model.safetensors": safetensors(oneTensor, 16), "optimizer.pt": torch, "training_args.bin": torch,
		"rng_state_0.pth": torch, "rng_state_1.pth": torch, "trainer_state.json": `{"global_step": 20, "log_history": []}`,
	}
}

func TestFilesThatALibraryWroteBadlyAreTornThoughTheirManifestIsRight(t *testing.T) {
	for _, c := range []struct {
		name, recipe, why string
		change            map[string]string // content by file; empty: it is not there
	}{
		{"as it should be", "lora_sft", "", nil},
		{"safetensors without its end", "lora_sft", "holds 12 bytes of tensors, its safetensors header says 16", map[string]string{"adapter_model.safetensors": safetensors(oneTensor, 12)}},
		{"safetensors with more than its header says", "", "holds 17 bytes of tensors", map[string]string{"adapter_model.safetensors": safetensors(oneTensor, 17)}},
		{"safetensors of no tensors", "lora_sft", "holds no tensors", map[string]string{"adapter_model.safetensors": safetensors(`{"__metadata__":{}}`, 0)}},
		{"safetensors shorter than its header", "lora_sft", "header alone would take", map[string]string{"adapter_model.safetensors": safetensors(oneTensor, 0)[:40]}},
		{"safetensors of four bytes", "lora_sft", "is no safetensors file", map[string]string{"adapter_model.safetensors": "abcd"}},
		{"safetensors with a header of noise", "lora_sft", "does not parse", map[string]string{"adapter_model.safetensors": safetensors("noise", 16)}},
		{"an optimizer's zip file without its directory", "lora_sft", "optimizer.pt is no whole zip file", map[string]string{"optimizer.pt": torchFile(t)[:1500]}},
		{"the same in a program of the user's own", "", "optimizer.pt is no whole zip file", map[string]string{"optimizer.pt": torchFile(t)[:100]}},
		{"a pickle of the user's own", "", "", map[string]string{"optimizer.pt": "\x80\x02a pickle"}},
		{"a pickle where a recipe of forge's writes zip files", "lora_sft", "training_args.bin is no whole zip file", map[string]string{"training_args.bin": "\x80\x02a pickle"}},
		{"state of another step", "lora_sft", "says step 19, the manifest says 20", map[string]string{"trainer_state.json": `{"global_step": 19}`}},
		{"state that does not parse", "lora_sft", "trainer_state.json does not parse", map[string]string{"trainer_state.json": `{"global_step": 2`}},
		{"state without a step", "lora_sft", "has no global_step", map[string]string{"trainer_state.json": `{}`}},
		{"a rank without its random state", "lora_sft", "does not list rng_state_1.pth", map[string]string{"rng_state_1.pth": ""}},
		{"no state", "lora_sft", "does not list trainer_state.json", map[string]string{"trainer_state.json": ""}},
		{"no state in a program of the user's own", "", "", map[string]string{"trainer_state.json": "", "rng_state_0.pth": "", "rng_state_1.pth": ""}},
		{"shards are left to the manifest", "lora_sft", "", map[string]string{"pytorch_model_fsdp_0/__0_0.distcp": "anything", "pytorch_model_fsdp_0/.metadata": "at all"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "R")
			files := trained(t)
			maps.Copy(files, c.change)
			maps.DeleteFunc(files, func(_, content string) bool { return content == "" })
			s := executortest.Save{Run: "R", Attempt: 1, Step: 20, World: 2, Recipe: c.recipe, Files: files}
			if err := s.Write(rundir.At(dir, 1).CheckpointDir()); err != nil {
				t.Fatal(err)
			}
			list, err := rundir.Checkpoints(dir, "R", true)
			if err != nil || len(list) != 1 {
				t.Fatalf("%+v, %v", list, err)
			}
			want := forge.VerdictVerified
			if c.why != "" {
				want = forge.VerdictTorn
			}
			if got := list[0]; got.Verdict != want || !strings.Contains(got.Why, c.why) {
				t.Errorf("%s (%s), want %s because of %q", got.Verdict, got.Why, want, c.why)
			}
		})
	}
}

func TestOneRankLeavesOneRandomState(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "R")
	s := executortest.Save{Run: "R", Attempt: 1, Step: 20, World: 1, Recipe: "dpo", Files: map[string]string{"rng_state.pth": torchFile(t), "trainer_state.json": `{"global_step":20}`}}
	if err := s.Write(rundir.At(dir, 1).CheckpointDir()); err != nil {
		t.Fatal(err)
	}
	if r := rundir.ChooseResume(dir, rundir.Fit{Run: "R", Recipe: "dpo", World: 1}); r.Step != 20 {
		t.Errorf("%+v", r)
	}
}

func TestWhatIsOfAnotherRunRecipeBaseOrNumberOfRanksIsForeign(t *testing.T) {
	fit := rundir.Fit{Run: "R", Recipe: "dpo", Base: strings.Repeat("a", 64), World: 2}
	for _, c := range []struct {
		name, why string
		change    func(m *rundir.SaveManifest)
	}{
		{"another run", `of run "Q"`, func(m *rundir.SaveManifest) { m.Run = "Q" }},
		{"another recipe", "saved by recipe reward, this run has dpo", func(m *rundir.SaveManifest) { m.Recipe = "reward" }},
		{"another base model", "on another base model", func(m *rundir.SaveManifest) { m.BaseSHA256 = strings.Repeat("b", 64) }},
		{"another number of ranks", "saved by 4 ranks, this attempt has 2", func(m *rundir.SaveManifest) { m.World = 4 }},
		{"another number of ranks that can be read", "", func(m *rundir.SaveManifest) { m.World, m.AnyWorld = 4, true }},
		{"a manifest that says nothing of them", "", func(m *rundir.SaveManifest) { m.Recipe, m.BaseSHA256 = "", "" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, newest := saved(t)
			edit(t, newest, c.change)
			r := rundir.ChooseResume(dir, fit)
			if c.why == "" {
				if r.Step != 20 || len(r.Skipped) > 0 {
					t.Errorf("%+v, want step 20", r)
				}
				return
			}
			if r.Step != 10 || len(r.Skipped) != 1 || !strings.Contains(r.Skipped[0].Why, c.why) {
				t.Errorf("%+v, want 10, and 20 skipped because of %q", r, c.why)
			}
		})
	}
	t.Run("a listing judges by the spec that lies in the run's directory", func(t *testing.T) {
		dir, newest := saved(t)
		mustWrite(t, rundir.SpecPath(dir), `{"recipe":"dpo","launch":"rank","gang":{"nodes":1,"gpus_per_node":2}}`)
		edit(t, newest, func(m *rundir.SaveManifest) { m.Recipe = "reward" })
		for _, verify := range []bool{false, true} {
			var files rundir.Files
			list, err := files.Checkpoints(t.Context(), "R", dir, verify)
			if err != nil || len(list) != 2 || list[0].Verdict != forge.VerdictForeign || !strings.Contains(list[0].Why, "recipe reward") || list[1].Verdict == forge.VerdictForeign {
				t.Errorf("verify %v: %+v, %v", verify, list, err)
			}
		}
	})
}

// vanish removes a checkpoint as ranks do: its manifest first.
func vanish(t *testing.T, dir string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, rundir.ManifestName)); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
}

func TestACheckpointThatItsRunRemovesWhileItIsHashedIsNotTorn(t *testing.T) {
	dir, newest := saved(t)
	list, err := rundir.Checkpoints(dir, "R", false)
	if err != nil {
		t.Fatal(err)
	}
	vanish(t, newest)
	c, err := rundir.Verify(t.Context(), two, list[0])
	if err != nil || c.Verdict != forge.VerdictWritten || c.Removed.IsZero() || c.Why != "" {
		t.Errorf("%+v, %v; want it removed and not torn", c, err)
	}
}

func TestRetentionBesideAVerificationNeverMakesACheckpointTorn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "R")
	done := make(chan struct{})
	go func() { // as ranks do: save, then remove the oldest, its manifest first
		defer close(done)
		for step := int64(1); step <= 150; step++ {
			save(t, dir, 1, step)
			if step > 2 {
				vanish(t, filepath.Join(rundir.At(dir, 1).CheckpointDir(), fmt.Sprintf("checkpoint-%d", step-2)))
			}
		}
	}()
	var files rundir.Files
	for looks := 0; ; looks++ {
		list, err := files.Checkpoints(t.Context(), "R", dir, true)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			if c.Verdict == forge.VerdictTorn {
				t.Errorf("look %d: %+v", looks, c)
			}
		}
		r, err := rundir.ChooseResumeContext(t.Context(), dir, two, nil)
		if err != nil { // it says so and chooses nothing, since whatever it looked at was removed each time
			if r.Path != "" || !strings.Contains(err.Error(), "came and went") {
				t.Errorf("look %d: %+v, %v", looks, r, err)
			}
		} else if slices.ContainsFunc(r.Skipped, func(s forge.SkippedSave) bool { return !strings.Contains(s.Why, "not finished") }) || len(list) > 0 && r.Path == "" {
			t.Errorf("look %d: %+v", looks, r)
		}
		select {
		case <-done:
			if r := rundir.ChooseResume(dir, two); r.Step != 150 || len(r.Skipped) > 0 {
				t.Errorf("at last %+v", r)
			}
			return
		default:
		}
	}
}
