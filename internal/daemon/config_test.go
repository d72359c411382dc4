package daemon

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
)

func TestTheSampleConfigurationShowsEveryKeyWithItsDefault(t *testing.T) {
	if c, err := ParseConfig(SampleConfig); err != nil || !reflect.DeepEqual(c, Config{}) {
		t.Fatalf("as it ships it sets something: %+v, %v", c, err)
	}
	text := regexp.MustCompile(`(?m)^# ?`).ReplaceAllString(string(SampleConfig), "")
	_, text, _ = strings.Cut(text, "\n\n") // the prose at the top
	text = strings.ReplaceAll(text, "STATE_DIR", "/s")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text = strings.ReplaceAll(text, ": SELF", ": "+self)
	text = regexp.MustCompile(`(?m)^ {20,}\S.*$`).ReplaceAllString(text, "") // prose that goes on over lines
	shown, err := ParseConfig([]byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	shown.StateDir = "/s"
	got, err := shown.resolve()
	if err != nil {
		t.Fatal(err)
	}
	want, err := Config{StateDir: "/s", Policy: PolicyConfig{Preset: "default"}, Clusters: []ClusterConfig{{Name: DefaultClusterName},
		{Name: "hpc", Kind: KindSlurm, RunRoot: "/scratch/forge/runs", Slurm: &SlurmConfig{Partitions: []PartitionConfig{{Name: "gpu"}}}}}}.resolve()
	if err != nil {
		t.Fatal(err)
	}
	for i := range got.Clusters {
		noEmpty(reflect.ValueOf(&got.Clusters[i]).Elem())
	}
	if len(got.DataRoots) == 0 {
		got.DataRoots = nil
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the sample shows\n%+v\n%+v\nthe defaults are\n%+v\n%+v", got, got.Clusters[1].Slurm, want, want.Clusters[1].Slurm)
	}
	for _, key := range yamlKeys(reflect.TypeFor[Config]()) {
		if key != "state_dir" && !strings.Contains(text, key+":") {
			t.Errorf("the sample does not show %q", key)
		}
	}
}

// noEmpty makes the empty lists and maps that a file shows what a file without them has.
func noEmpty(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			noEmpty(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			noEmpty(v.Field(i))
		}
	case reflect.Slice, reflect.Map:
		if v.Len() == 0 {
			v.SetZero()
		} else if v.Kind() == reflect.Slice {
			for i := range v.Len() {
				noEmpty(v.Index(i))
			}
		}
	}
}

func yamlKeys(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		out = append(out, f.Tag.Get("yaml"))
		ft := f.Type
		for ft.Kind() == reflect.Slice || ft.Kind() == reflect.Pointer || ft.Kind() == reflect.Map {
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Struct {
			out = append(out, yamlKeys(ft)...)
		}
	}
	return out
}

func TestStateOnANetworkFilesystemIsRefusedWithWhatToUseInstead(t *testing.T) {
	if err := checkLocal(t.TempDir()); err != nil {
		t.Fatalf("a local directory is refused: %v", err)
	}
	// Every magic number that statfs may give is sign-extended on some machines.
	for magic, name := range networkFS {
		err := judgeFS("/s", int64(int32(uint32(magic)))) //nolint:gosec // the sign extension is the point
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(forge.HintOf(err), "/var/lib/forge") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
