package daemon

import (
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
	want, err := Config{StateDir: "/s"}.resolve()
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Clusters[0].Env) == 0 {
		got.Clusters[0].Env = nil
	}
	if len(got.DataRoots) == 0 {
		got.DataRoots = nil
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the sample shows\n%+v\nthe defaults are\n%+v", got, want)
	}
	for _, key := range yamlKeys(reflect.TypeFor[Config]()) {
		if key != "state_dir" && !strings.Contains(text, key+":") {
			t.Errorf("the sample does not show %q", key)
		}
	}
}

func yamlKeys(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		out = append(out, f.Tag.Get("yaml"))
		ft := f.Type
		if ft.Kind() == reflect.Slice {
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
