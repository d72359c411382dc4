//go:build e2e && long

package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/crash"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// twoVersions registers a base model twice, and brings the first of it to production: past its gate where that has nothing to look at.
func twoVersions(t *testing.T, ctx context.Context, s *forgedtest.Site) {
	t.Helper()
	header := `{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`
	for _, last := range []string{"\x00", "\x01"} {
		dir := filepath.Join(t.TempDir(), "weights")
		write(t, filepath.Join(dir, "model.safetensors"), string([]byte{byte(len(header)), 0, 0, 0, 0, 0, 0, 0})+header+"\x00\x00\x00"+last)
		write(t, filepath.Join(dir, "config.json"), `{"model_type":"llama","architectures":["LlamaForCausalLM"],"hidden_size":1,"vocab_size":1}`)
		write(t, filepath.Join(dir, "tokenizer.json"), `{}`)
		_, err := s.Ctl(ctx, "model", "import", "tiny", dir)
		must(t, err)
	}
}

func force(t *testing.T, ctx context.Context, s *forgedtest.Site, args ...string) {
	t.Helper()
	_, err := s.Ctl(ctx, append([]string{"model"}, args...)...)
	must(t, err)
}

// standing says in which stage each version is, and that the history of it holds.
func standing(t *testing.T, ctx context.Context, s *forgedtest.Site) string {
	t.Helper()
	if out, err := s.Ctl(ctx, "model", "history", "tiny", "--verify"); err != nil {
		t.Errorf("the history does not hold: %v\n%s", err, out)
	}
	out, err := s.Ctl(ctx, "model", "show", "tiny", "-o", "json")
	must(t, err)
	var m forge.Model
	must(t, json.Unmarshal([]byte(out), &m))
	var stages []string
	for _, v := range m.Versions {
		stages = append(stages, string(v.Stage))
	}
	return strings.Join(stages, " ")
}

// TestAKillInTheMiddleOfAPromotionLeavesNothingHalfDone kills forged at every named point of a promotion and of a rollback: afterwards all of
// the move is there or nothing of it, and the same command then does it, or says that it is done.
func TestAKillInTheMiddleOfAPromotionLeavesNothingHalfDone(t *testing.T) {
	try := func(t *testing.T, point, before, after string, first [][]string, move ...string) {
		t.Parallel()
		mark := filepath.Join(t.TempDir(), "fired")
		bin := ""
		ctx, s := open(t, func(o *forgedtest.Options) {
			bin = o.Bin
			gates := filepath.Join(t.TempDir(), "gates.yaml")
			write(t, gates, "default:\n  candidate: {digest: true}\n  production: {digest: true}\n")
			o.Extra = "gates_file: " + gates + "\n"
		})
		twoVersions(t, ctx, s)
		for _, args := range first {
			force(t, ctx, s, args...)
		}
		if got := standing(t, ctx, s); got != before {
			t.Fatalf("before: %s, want %s", got, before)
		}
		must(t, s.Stop(ctx))
		must(t, s.StartAs(ctx, filepath.Join(bin, "forged-crash"), "FORGE_CRASH_AT="+point, "FORGE_CRASH_MARK="+mark))
		asking, stop := context.WithCancel(ctx)
		answered := make(chan error, 1)
		go func() {
			_, err := s.Ctl(asking, append([]string{"model"}, move...)...)
			answered <- err
		}()
		select {
		case <-s.Exited():
		case <-ctx.Done():
			t.Fatal("forged outlived its crash point")
		}
		stop() // forgectl would ask again
		<-answered
		if _, err := os.Stat(mark); err != nil {
			t.Fatal("it ended without having met the point")
		}
		must(t, s.Start(ctx))
		done := strings.HasSuffix(point, "after_commit")
		want := before
		if done {
			want = after
		}
		if got := standing(t, ctx, s); got != want {
			t.Errorf("after the kill: %s, want %s", got, want)
		}
		if !done {
			force(t, ctx, s, move...)
			if got := standing(t, ctx, s); got != after {
				t.Errorf("done again: %s, want %s", got, after)
			}
		}
		sound(t, ctx, s)
	}
	production := [][]string{{"promote", "tiny@1"}, {"promote", "tiny@1"}, {"promote", "tiny@2"}}
	for _, point := range crash.StagePoints {
		t.Run(point, func(t *testing.T) {
			try(t, point, "production candidate", "archived production", production, "promote", "tiny@2")
		})
	}
	for _, point := range crash.RollbackPoints {
		t.Run(point, func(t *testing.T) {
			try(t, point, "archived production", "production archived", append(production, []string{"promote", "tiny@2"}), "rollback", "tiny", "--reason", "worse")
		})
	}
}
