package forge_test

import (
	"maps"
	"reflect"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
)

func TestARuntimeIsMergedFieldByFieldAndKnowsWhereEachCameFrom(t *testing.T) {
	cluster := forge.RuntimeLayer{Origin: "cluster hpc", Runtime: forge.Runtime{Kind: forge.RuntimeVenv, Path: "/venv", Modules: []string{"cuda"}, Setup: []string{"a"}}}
	got, from := forge.MergeRuntime(cluster, forge.RuntimeLayer{Origin: "recipe", Runtime: forge.Runtime{Setup: []string{"b", "c"}}}, forge.RuntimeLayer{Origin: "run", Runtime: forge.Runtime{Path: "/mine"}})
	if want := (forge.Runtime{Kind: forge.RuntimeVenv, Path: "/mine", Modules: []string{"cuda"}, Setup: []string{"b", "c"}}); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if want := map[string]string{"runtime.kind": "cluster hpc", "runtime.path": "run", "runtime.modules": "cluster hpc", "runtime.setup": "recipe"}; !maps.Equal(from, want) {
		t.Errorf("%v, want %v", from, want)
	}
	got, from = forge.MergeRuntime(cluster, forge.RuntimeLayer{Origin: "run", Runtime: forge.Runtime{Kind: forge.RuntimeApptainer, Image: "/i.sif"}})
	if want := (forge.Runtime{Kind: forge.RuntimeApptainer, Image: "/i.sif", Modules: []string{"cuda"}, Setup: []string{"a"}}); !reflect.DeepEqual(got, want) || from["runtime.path"] != "" {
		t.Errorf("another kind keeps what was written for the one below: %+v %v", got, from)
	}
}

func TestARuntimeThatMeansNothingIsRefusedWithItsField(t *testing.T) {
	for name, c := range map[string]struct {
		r     forge.Runtime
		field string
	}{
		"an unknown kind":                 {forge.Runtime{Kind: "docker"}, "runtime.kind"},
		"a venv without a path":           {forge.Runtime{Kind: forge.RuntimeVenv}, "runtime.path"},
		"a venv on a way round":           {forge.Runtime{Kind: forge.RuntimeVenv, Path: "/a/../b"}, "runtime.path"},
		"a conda environment of shell":    {forge.Runtime{Kind: forge.RuntimeConda, Path: "a; id"}, "runtime.path"},
		"a script without a path":         {forge.Runtime{Kind: forge.RuntimeScript}, "runtime.path"},
		"a path with a line break":        {forge.Runtime{Kind: forge.RuntimeScript, Path: "/a\nb"}, "runtime.path"},
		"modules that are none":           {forge.Runtime{Kind: forge.RuntimeModule}, "runtime.modules"},
		"a module of shell":               {forge.Runtime{Modules: []string{"$(id)"}}, "runtime.modules[0]"},
		"a module that is an option":      {forge.Runtime{Modules: []string{"--force"}}, "runtime.modules[0]"},
		"a container without an image":    {forge.Runtime{Kind: forge.RuntimeApptainer}, "runtime.image"},
		"an image that is an option":      {forge.Runtime{Kind: forge.RuntimeApptainer, Image: "--bind=/etc"}, "runtime.image"},
		"an image with a second mount":    {forge.Runtime{Kind: forge.RuntimePyxis, Image: "a,b"}, "runtime.image"},
		"an image and no container":       {forge.Runtime{Kind: forge.RuntimeVenv, Path: "/v", Image: "i"}, "runtime.image"},
		"mounts and no container":         {forge.Runtime{Mounts: []string{"/a"}}, "runtime.mounts"},
		"a mount that is two":             {forge.Runtime{Kind: forge.RuntimePyxis, Image: "i", Mounts: []string{"/a,/b"}}, "runtime.mounts[0]"},
		"a mount of the directory above":  {forge.Runtime{Kind: forge.RuntimePyxis, Image: "i", Mounts: []string{"/a/.."}}, "runtime.mounts[0]"},
		"a mount with a word too many":    {forge.Runtime{Kind: forge.RuntimePyxis, Image: "i", Mounts: []string{"/a:/b:rx"}}, "runtime.mounts[0]"},
		"a setup line that holds a NUL":   {forge.Runtime{Setup: []string{"a\x00"}}, "runtime.setup[0]"},
		"a setup line that holds nothing": {forge.Runtime{Setup: []string{" "}}, "runtime.setup[0]"},
		"a path and no kind":              {forge.Runtime{Path: "/v"}, "runtime.path"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.r.CheckWhole(); forge.KindOf(err) != forge.KindInvalid || !strings.HasPrefix(err.Error(), c.field+": ") {
				t.Errorf("%v; want one of %s", err, c.field)
			}
		})
	}
	for _, r := range []forge.Runtime{{}, {Modules: []string{"cuda/12.4"}, Setup: []string{"if true; then\n  :\nfi"}}, {Kind: forge.RuntimeConda, Path: "train"}, {Kind: forge.RuntimePyxis, Image: "nvcr.io#nvidia/pytorch:25.10-py3", Mounts: []string{"/a:/b:ro"}},
		{Kind: forge.RuntimeApptainer, Image: "docker://org/image@sha256:12"}} {
		if err := r.CheckWhole(); err != nil {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if err := (forge.Runtime{Kind: forge.RuntimeVenv}).Check(); err != nil {
		t.Errorf("a layer need not be whole: %v", err)
	}
}
