package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

const askRow = `{"prompt": "p", "completion": "c"}` + "\n"

// licensed registers a dataset and gives the licence that it got.
func (r *rig) licensed(t *testing.T, name, row, terms string, parents ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "d.jsonl")
	if err := os.WriteFile(path, []byte(row), 0o600); err != nil {
		t.Fatal(err)
	}
	q := api.AddDatasetRequest{Name: name, Paths: []string{path}, License: terms, Parents: parents}
	v, err := datasets{r.Daemon}.AddDataset(t.Context(), r.op, q)
	if err != nil {
		t.Fatal(err)
	}
	return v.License
}

func (r *rig) lists(t *testing.T, allow, deny []string) forge.Tenant {
	t.Helper()
	v, err := tenants{r.Daemon}.UpdateTenant(t.Context(), r.op, forge.DefaultTenant, api.UpdateTenantRequest{LicenseAllow: &allow, LicenseDeny: &deny})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestALicenceIsReadWhenItIsGivenAndComposedOfWhatAThingIsMadeOf(t *testing.T) {
	r := startChain(t)
	for _, c := range []struct {
		row, terms string
		parents    []string
		want       string
	}{
		{"a", "", nil, "NOASSERTION"},
		{"b", "apache-2.0 or mit", nil, "Apache-2.0 OR MIT"},
		{"c", "", []string{"d@2"}, "Apache-2.0 OR MIT"},
		{"d", "cc-by-4.0", []string{"d@2"}, "(Apache-2.0 OR MIT) AND CC-BY-4.0"},
		{"e", "MIT", []string{"d@1", "d@2"}, "(Apache-2.0 OR MIT) AND MIT AND NOASSERTION"},
	} {
		if got := r.licensed(t, "d", `{"text": "`+c.row+`"}`+"\n", c.terms, c.parents...); got != c.want {
			t.Errorf("%q of %v: %s; want %s", c.terms, c.parents, got, c.want)
		}
	}
	for terms, want := range map[string]string{"zlib": "(Apache-2.0 OR MIT) AND NOASSERTION AND Zlib", "": "(Apache-2.0 OR MIT) AND NOASSERTION"} {
		v, err := datasets{r.Daemon}.EditDataset(t.Context(), r.op, forge.Ref{Name: "d", Number: 5}, api.EditDatasetRequest{License: &terms})
		if err != nil || v.License != want {
			t.Errorf("edited to %q: %s, %v; want %s: what its parents have stays", terms, v.License, err, want)
		}
	}
	_, err := datasets{r.Daemon}.AddDataset(t.Context(), r.op, api.AddDatasetRequest{Name: "d", Paths: []string{"/nowhere"}, License: "apache2"})
	saysNo(t, err, "license", `"apache2" is no licence of the SPDX list`, "hint:did you mean Apache-2.0?")
	_, err = models{r.Daemon}.ImportModel(t.Context(), r.op, api.ImportModelRequest{Name: "d", Path: "/nowhere", License: "LLaMA"})
	saysNo(t, err, "license", `"LLaMA" is no licence`)

	t.Run("a trained model has those of its data and of all that it was trained from", func(t *testing.T) {
		base, err := models{r.Daemon}.ImportModel(t.Context(), r.op, api.ImportModelRequest{Name: "tiny", Path: baseModel(t, nil), License: "llama3.1"})
		if err != nil || base.License != "LicenseRef-llama3.1" {
			t.Fatalf("%s, %v", base.License, err)
		}
		r.licensed(t, "asks", askRow, "cc-by-nc-4.0")
		run := r.asks(t, api.SubmitRunRequest{Recipe: "tune", Dataset: "asks", Base: "tiny", Register: "chat", NoCheck: true})
		r.completes(t, run, adapterFiles)
		v, err := r.db.ModelOfRun(t.Context(), run.ID)
		if err != nil || v.License != "CC-BY-NC-4.0 AND LicenseRef-llama3.1" {
			t.Fatalf("%s, %v", v.License, err)
		}
		r.licensed(t, "more", askRow, "MIT")
		next := r.asks(t, api.SubmitRunRequest{Recipe: "tune", Dataset: "more", Base: "chat", Register: "chat", NoCheck: true})
		r.completes(t, next, adapterFiles)
		if v, err = r.db.ModelOfRun(t.Context(), next.ID); err != nil || v.License != "CC-BY-NC-4.0 AND LicenseRef-llama3.1 AND MIT" {
			t.Errorf("%s, %v", v.License, err)
		}
	})
}

func TestARunOnWhatATenantMustNotUseIsRefusedWithTheLicenceTheListAndTheInput(t *testing.T) {
	r := startChain(t)
	r.imports(t, "tiny", nil)
	r.licensed(t, "free", askRow, "MIT")
	r.licensed(t, "kept", `{"prompt": "q", "completion": "c"}`+"\n", "cc-by-nc-4.0")
	r.trained(t, "chat", "tune", r.imports(t, "own", map[string]string{"config.json": `{"architectures": ["LlamaForCausalLM"], "vocab_size": 7}`}), adapterFiles)
	ask := func(data, base string) api.SubmitRunRequest {
		return api.SubmitRunRequest{Recipe: "tune", Dataset: data, Base: base, DryRun: true, NoCheck: true}
	}
	r.asks(t, ask("kept", "tiny")) // nobody has lists

	got := r.lists(t, []string{forge.SiteLicenses}, []string{"cc-by-nc-*"})
	if got.LicenseAllow != nil || !slices.Equal(got.LicenseDeny, []string{"cc-by-nc-*"}) {
		t.Errorf("%+v", got)
	}
	r.refuses(t, ask("kept", "tiny"), "dataset", "denied: CC-BY-NC-4.0, by dataset kept@1, on the deny list of tenant default as cc-by-nc-*", "hint:use another version", "hint:forgectl tenant edit")
	r.asks(t, ask("free", "tiny"))

	r.lists(t, []string{"MIT"}, []string{})
	r.refuses(t, ask("free", "tiny"), "base", "not allowed: NOASSERTION, by base tiny@1, not on the allow list of tenant default")
	r.refuses(t, ask("free", "chat"), "base", "by base own@1", "by model chat@1")
	r.lists(t, []string{"MIT", "NOASSERTION"}, []string{})
	r.asks(t, ask("free", "tiny"))

	r.configure(func(c *Config) { c.Policy.Licenses.Deny = []string{"MIT"} })
	r.lists(t, []string{}, []string{forge.SiteLicenses})
	r.refuses(t, ask("free", "tiny"), "dataset", "denied: MIT, by dataset free@1, on the deny list of this site")
	r.lists(t, []string{}, []string{})
	r.asks(t, ask("kept", "tiny"))

	for _, bad := range [][]string{{"apache2"}, {"site", "MIT"}, {"MIT OR Zlib"}} {
		_, err := tenants{r.Daemon}.UpdateTenant(t.Context(), r.op, forge.DefaultTenant, api.UpdateTenantRequest{LicenseDeny: &bad})
		saysNo(t, err, "license_deny")
	}
	member := r.op
	member.Role = forge.RoleAdmin
	if _, err := (tenants{r.Daemon}).UpdateTenant(t.Context(), member, forge.DefaultTenant, api.UpdateTenantRequest{LicenseDeny: &[]string{}}); forge.KindOf(err) != forge.KindForbidden {
		t.Errorf("an admin takes what the operator denies off the list: %v", err)
	}
}
