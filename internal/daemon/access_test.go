package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/store"
)

// as makes a user of the role in the operator's tenant, named after the role, and lets it in.
func (r *rig) as(t *testing.T, tenant forge.TenantID, name string, role forge.Role) forge.Principal {
	t.Helper()
	_, secret, err := r.db.CreateKey(t.Context(), tenant, name, role, "test")
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Authenticate(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// full is a daemon whose only GPUs are taken by a run of the operator, so that everything else waits.
func full(t *testing.T) *rig {
	t.Helper()
	r := start(t, 1)
	r.launched(t, r.submit(t, script(1)).ID, 1)
	return r
}

func TestWhoMayActOnWhoseRun(t *testing.T) {
	r := full(t)
	home := r.op.Tenant
	max, moe, ann, vic := r.as(t, home, "max", forge.RoleMember), r.as(t, home, "moe", forge.RoleMember), r.as(t, home, "ann", forge.RoleAdmin), r.as(t, home, "vic", forge.RoleViewer)
	lab, err := tenants{r.Daemon}.CreateTenant(t.Context(), r.op, api.CreateTenantRequest{Name: "lab"})
	if err != nil {
		t.Fatal(err)
	}
	ida := r.as(t, lab.ID, "ida", forge.RoleAdmin)
	acts := map[string]func(p forge.Principal, run string) error{
		"cancel": func(p forge.Principal, run string) error {
			_, err := runs{r.Daemon}.CancelRun(t.Context(), p, run, forge.CancelTerm)
			return err
		},
		"hold": func(p forge.Principal, run string) error {
			_, err := holds{r.Daemon}.HoldRun(t.Context(), p, run, "wait")
			return err
		},
		"release": func(p forge.Principal, run string) error {
			_, err := holds{r.Daemon}.ReleaseRun(t.Context(), p, run)
			return err
		},
		"interrupt": func(p forge.Principal, run string) error {
			_, err := runs{r.Daemon}.InterruptRun(t.Context(), p, run, forge.InterruptPreempt)
			return err
		},
		"shell": func(p forge.Principal, run string) error {
			_, err := runs{r.Daemon}.RunSeat(t.Context(), p, run, 0)
			return err
		},
		"retry": func(p forge.Principal, run string) error {
			_, err := runs{r.Daemon}.RetryRun(t.Context(), p, run)
			return err
		},
	}
	for what, act := range acts {
		for _, c := range []struct {
			who  string
			p    forge.Principal
			want forge.Kind // "": done
		}{
			{"its owner", max, ""},
			{"another member", moe, forge.KindForbidden},
			{"a viewer", vic, forge.KindForbidden},
			{"an admin", ann, ""},
			{"an operator", r.op, ""},
			{"another tenant's admin", ida, forge.KindNotFound},
		} {
			t.Run(what+" by "+c.who, func(t *testing.T) {
				run, err := r.db.For(max).SubmitRun(t.Context(), store.NewRun{Spec: script(1)})
				if err != nil {
					t.Fatal(err)
				}
				if what == "release" || what == "retry" {
					if _, err := r.db.For(max).HoldRun(t.Context(), string(run.ID), "first"); err != nil {
						t.Fatal(err)
					}
				}
				want := c.want
				if want == "" && (what == "interrupt" || what == "shell") {
					want = forge.KindPrecondition // it waits: whoever may is told so
				}
				got := forge.Kind("")
				if err = act(c.p, string(run.ID)); err != nil {
					got = forge.KindOf(err)
				}
				if got != want || got == forge.KindForbidden && forge.HintOf(err) == "" {
					t.Fatalf("got %q (%v), want %q", got, err, want)
				}
			})
		}
	}
	t.Run("an operator who visits is named as one, and what it submits is no namesake's", func(t *testing.T) {
		visitor, err := r.ActIn(t.Context(), r.op, "lab")
		if err != nil {
			t.Fatal(err)
		}
		if visitor.Tenant != lab.ID || visitor.Home != home || visitor.Actor() != "admin (operator)" {
			t.Fatalf("got %+v", visitor)
		}
		run, err := r.db.For(visitor).SubmitRun(t.Context(), store.NewRun{Spec: script(1)})
		if err != nil || run.User != "admin (operator)" {
			t.Fatalf("got %+v, %v", run.User, err)
		}
		namesake := r.as(t, lab.ID, "admin", forge.RoleMember)
		if err := acts["cancel"](namesake, string(run.ID)); forge.KindOf(err) != forge.KindForbidden {
			t.Errorf("a namesake cancelled it: %v", err)
		}
		who, err := site{r.Daemon}.WhoAmI(t.Context(), visitor)
		if err != nil || who.Tenant.Name != "lab" || who.Home != forge.DefaultTenant || who.Key == nil || who.MaxPriority != forge.MaxPriority {
			t.Errorf("got %+v, %v", who, err)
		}
		if _, err := (keys{r.Daemon}).CreateKey(t.Context(), visitor, api.CreateKeyRequest{}); forge.KindOf(err) != forge.KindInvalid {
			t.Errorf("a key for nobody of this tenant: %v", err)
		}
	})
	t.Run("nobody else visits, and is not told whether there is such a tenant", func(t *testing.T) {
		_, a := r.ActIn(t.Context(), ann, "lab")
		_, b := r.ActIn(t.Context(), ann, "nowhere")
		if forge.KindOf(a) != forge.KindForbidden || a.Error() != b.Error() {
			t.Errorf("%v / %v", a, b)
		}
		if _, err := r.ActIn(t.Context(), r.op, "nowhere"); forge.KindOf(err) != forge.KindNotFound {
			t.Errorf("got %v", err)
		}
	})
}

func TestWhoMayManageWhom(t *testing.T) {
	r := start(t, 1)
	home := r.op.Tenant
	max, ann, vic := r.as(t, home, "max", forge.RoleMember), r.as(t, home, "ann", forge.RoleAdmin), r.as(t, home, "vic", forge.RoleViewer)
	lab, err := tenants{r.Daemon}.CreateTenant(t.Context(), r.op, api.CreateTenantRequest{Name: "lab"})
	if err != nil {
		t.Fatal(err)
	}
	visitor, err := r.ActIn(t.Context(), r.op, string(lab.ID))
	if err != nil {
		t.Fatal(err)
	}
	user := func(p forge.Principal, name string, role forge.Role) error {
		_, err := users{r.Daemon}.CreateUser(t.Context(), p, api.CreateUserRequest{Name: name, Role: role})
		return err
	}
	key := func(p forge.Principal, name string, role forge.Role) error {
		_, err := keys{r.Daemon}.CreateKey(t.Context(), p, api.CreateKeyRequest{User: name, Role: role})
		return err
	}
	const done = forge.Kind("")
	for name, c := range map[string]struct {
		err  error
		want forge.Kind
	}{
		"an admin makes an admin":                         {user(ann, "a1", forge.RoleAdmin), done},
		"an admin makes an operator":                      {user(ann, "a2", forge.RoleOperator), forge.KindForbidden},
		"an operator makes an operator at home":           {user(r.op, "a3", forge.RoleOperator), done},
		"an operator makes an operator elsewhere":         {user(visitor, "a4", forge.RoleOperator), forge.KindForbidden},
		"an operator makes an operator elsewhere by key":  {key(visitor, "a5", forge.RoleOperator), forge.KindForbidden},
		"an operator makes an admin elsewhere":            {user(visitor, "a6", forge.RoleAdmin), done},
		"a member makes a user":                           {user(max, "a7", forge.RoleViewer), forge.KindForbidden},
		"a role that does not exist":                      {user(ann, "a8", "root"), forge.KindInvalid},
		"a viewer makes a key for itself":                 {key(vic, "", ""), done},
		"a member makes a weaker key for itself":          {key(max, "max", forge.RoleViewer), done},
		"a member makes a stronger key for itself":        {key(max, "max", forge.RoleAdmin), forge.KindForbidden},
		"a member makes a key for another":                {key(max, "vic", forge.RoleViewer), forge.KindForbidden},
		"a member makes a key for nobody":                 {key(max, "nobody", forge.RoleViewer), forge.KindForbidden},
		"an admin makes a key for a member":               {key(ann, "max", ""), done},
		"an admin makes a key above the member":           {key(ann, "max", forge.RoleAdmin), forge.KindInvalid},
		"an admin makes a key for an operator":            {key(ann, "admin", forge.RoleViewer), forge.KindForbidden},
		"a member makes a tenant":                         {onlyErr(tenants{r.Daemon}.CreateTenant(t.Context(), max, api.CreateTenantRequest{Name: "x"})), forge.KindForbidden},
		"an admin makes a tenant":                         {onlyErr(tenants{r.Daemon}.CreateTenant(t.Context(), ann, api.CreateTenantRequest{Name: "x"})), forge.KindForbidden},
		"a member disables a user":                        {onlyErr(users{r.Daemon}.DisableUser(t.Context(), max, "vic", forge.WhyLeft)), forge.KindForbidden},
		"a member enables a user":                         {onlyErr(users{r.Daemon}.EnableUser(t.Context(), max, "vic")), forge.KindForbidden},
		"a member raises itself":                          {onlyErr(users{r.Daemon}.UpdateUser(t.Context(), max, "max", api.UpdateUserRequest{Role: ptrTo(forge.RoleAdmin)})), forge.KindForbidden},
		"an admin raises itself":                          {onlyErr(users{r.Daemon}.UpdateUser(t.Context(), ann, "ann", api.UpdateUserRequest{Role: ptrTo(forge.RoleOperator)})), forge.KindForbidden},
		"a viewer registers data":                         {onlyErr(datasets{r.Daemon}.AddDataset(t.Context(), vic, api.AddDatasetRequest{Name: "d", Paths: []string{"/x"}})), forge.KindForbidden},
		"a viewer imports a model":                        {onlyErr(models{r.Daemon}.ImportModel(t.Context(), vic, api.ImportModelRequest{Name: "d", Path: "/x"})), forge.KindForbidden},
		"a viewer submits":                                {onlyErr(runs{r.Daemon}.SubmitRun(t.Context(), vic, api.SubmitRunRequest{Recipe: "lora_sft"})), forge.KindForbidden},
		"a key's name with a line break":                  {onlyErr(keys{r.Daemon}.CreateKey(t.Context(), max, api.CreateKeyRequest{Name: "a\nb"})), forge.KindInvalid},
		"a key that expires before it is made":            {onlyErr(keys{r.Daemon}.CreateKey(t.Context(), max, api.CreateKeyRequest{ExpiresIn: -1})), forge.KindInvalid},
		"an overlap of a year":                            {onlyErr(keys{r.Daemon}.RotateKey(t.Context(), max, string(max.Key), 365*24*time.Hour)), forge.KindInvalid},
		"a hold for a reason that moves the cursor":       {onlyErr(holds{r.Daemon}.HoldRun(t.Context(), r.op, "1", "\x1b[2J")), forge.KindInvalid},
		"a hold for a reason that turns writing around":   {onlyErr(holds{r.Daemon}.HoldRun(t.Context(), r.op, "1", "a\u202eb")), forge.KindInvalid},
		"a hold for a reason longer than anybody reads":   {onlyErr(holds{r.Daemon}.HoldRun(t.Context(), r.op, "1", strings.Repeat("ä", 501))), forge.KindInvalid},
		"a license with a NUL":                            {onlyErr(datasets{r.Daemon}.AddDataset(t.Context(), max, api.AddDatasetRequest{Name: "d", Paths: []string{"/x"}, License: "MIT\x00"})), forge.KindInvalid},
		"a run whose name is written with a look-alike a": {onlyErr(runs{r.Daemon}.SubmitRun(t.Context(), max, api.SubmitRunRequest{Recipe: "lora_sft", Name: "\u0430"})), forge.KindInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			got := done
			if c.err != nil {
				got = forge.KindOf(c.err)
			}
			if got != c.want {
				t.Fatalf("got %q (%v), want %q", got, c.err, c.want)
			}
		})
	}
}

func onlyErr[T any](_ T, err error) error { return err }
func ptrTo[T any](v T) *T                 { return &v }

func TestNobodyAsksForMoreThanTheirPriority(t *testing.T) {
	r := start(t, 1)
	low, high := 20, 100
	for _, c := range []struct {
		name string
		role forge.Role
		own  *int
		cap  int
	}{
		{"member", forge.RoleMember, nil, DefaultMemberPriority},
		{"trusted", forge.RoleMember, &high, 100},
		{"admin-2", forge.RoleAdmin, nil, 100},
		{"tamed", forge.RoleAdmin, &low, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := r.as(t, r.op.Tenant, c.name, c.role)
			p.MaxPriority = c.own
			who, err := site{r.Daemon}.WhoAmI(t.Context(), p)
			if err != nil || who.MaxPriority != c.cap {
				t.Fatalf("whoami says %d, %v", who.MaxPriority, err)
			}
			for _, priority := range []int{c.cap, c.cap + 1} {
				_, err := runs{r.Daemon}.SubmitRun(t.Context(), p, api.SubmitRunRequest{Recipe: "lora_sft", Priority: &priority, DryRun: true})
				switch text := fmt.Sprint(err); {
				case priority > forge.MaxPriority:
				case priority <= c.cap && strings.HasPrefix(text, "priority:"):
					t.Errorf("%d is refused: %v", priority, err)
				case priority > c.cap && (forge.KindOf(err) != forge.KindForbidden || !strings.HasPrefix(text, "priority:") ||
					!strings.Contains(text, fmt.Sprint(c.cap)) || !strings.Contains(forge.HintOf(err), "forgectl user edit "+c.name)):
					t.Errorf("%d: got %v, hint %q", priority, err, forge.HintOf(err))
				}
			}
			run, err := r.db.For(p).SubmitRun(t.Context(), store.NewRun{Spec: script(9, func(s *forge.RunSpec) { s.Priority = 100 })})
			if err != nil {
				t.Fatal(err)
			}
			if _, err = (holds{r.Daemon}).HoldRun(t.Context(), p, string(run.ID), ""); err != nil {
				t.Fatal(err)
			}
			_, err = runs{r.Daemon}.RetryRun(t.Context(), p, string(run.ID))
			if (err != nil) != (c.cap < 100) {
				t.Errorf("a retry above the cap: %v", err)
			}
		})
	}
}

func TestWhatADatasetOrModelMayBe(t *testing.T) {
	r := start(t, 1)
	ctx, dir, state := t.Context(), t.TempDir(), r.live().cfg.StateDir
	write := func(path string) string {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(`{"text":"hello"}`+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	link := func(to, at string) string {
		if err := os.Symlink(to, at); err != nil {
			t.Fatal(err)
		}
		return at
	}
	n := 0
	add := func(path string) error {
		n++
		_, err := datasets{r.Daemon}.AddDataset(ctx, r.op, api.AddDatasetRequest{Name: fmt.Sprint("d", n), Paths: []string{path}})
		return err
	}
	refused := func(name, path, says string) {
		t.Run(name, func(t *testing.T) {
			for what, err := range map[string]error{"dataset": add(path), "model": onlyErr(models{r.Daemon}.ImportModel(ctx, r.op, api.ImportModelRequest{Name: "m", Path: path}))} {
				if forge.KindOf(err) != forge.KindInvalid || err == nil || !strings.HasPrefix(err.Error(), "path:") || !strings.Contains(err.Error(), says) {
					t.Errorf("%s: got %v, want path: … %s", what, err, says)
				}
			}
		})
	}
	own, ok := write(filepath.Join(state, "rows.jsonl")), write(filepath.Join(dir, "good", "rows.jsonl"))
	write(filepath.Join(dir, "other", "rows.jsonl"))
	const mine = "forged itself"
	refused("the database", filepath.Join(state, dbFile), mine)
	refused("a file of the state directory", own, mine)
	refused("the state directory", state, mine)
	refused("what the state directory lies in", filepath.Dir(state), mine)
	refused("the root of everything", "/", mine)
	refused("what a run of somebody else left", write(filepath.Join(state, "runs", "X", "rows.jsonl")), mine)
	refused("a link to the state directory", link(state, filepath.Join(dir, "a")), mine)
	refused("a link to a link to a file in it", link(link(own, filepath.Join(dir, "b1.jsonl")), filepath.Join(dir, "b2.jsonl")), mine)
	refused("a way round", filepath.Join(dir, "good")+"/../../"+filepath.Base(filepath.Dir(state))+"/x/../s", "path:")
	refused("a way round through a linked directory", link(filepath.Join(dir, "good"), filepath.Join(filepath.Dir(state), "g"))+"/../s/rows.jsonl", mine)
	refused("a relative path", "rows.jsonl", "absolute")
	refused("no path", "", "path")
	refused("a path with a NUL", ok+"\x00", "printable")
	refused("a path with a line break", ok+"\n", "printable")
	refused("a path longer than paths are", "/"+strings.Repeat("a", 5000), "bytes")
	t.Run("anything else will do", func(t *testing.T) {
		if err := add(ok); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a model directory with a link into the state directory is refused", func(t *testing.T) {
		if err := r.mayReadAll(forge.Manifest{Root: filepath.Join(dir, "good"), Files: []forge.File{{Path: "rows.jsonl"}, {Path: link(own, filepath.Join(dir, "good", "vocab.txt"))[len(dir)+6:]}}}); forge.KindOf(err) != forge.KindInvalid || err == nil {
			t.Fatalf("got %v", err)
		}
	})
	inForce := *r.live()
	inForce.cfg.DataRoots = []string{filepath.Join(dir, "good"), filepath.Join(dir, "roots")}
	r.settings.Store(&inForce)
	link(filepath.Join(dir, "other"), filepath.Join(dir, "good", "out"))
	const outside = "not below a directory that this site takes data from"
	refused("outside of the roots", filepath.Join(dir, "other", "rows.jsonl"), outside)
	refused("outside, and not there: the same words", filepath.Join(dir, "other", "nothing.jsonl"), outside)
	refused("beside a root whose name it begins with", write(filepath.Join(dir, "good2", "rows.jsonl")), outside)
	refused("through a link in a root", filepath.Join(dir, "good", "out", "rows.jsonl"), outside)
	t.Run("below a root will do, also by a link from outside", func(t *testing.T) {
		for _, path := range []string{ok, link(ok, filepath.Join(dir, "in.jsonl"))} {
			if err := add(path); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	})
}

func TestInitMakesAnOperatorWhoComesInByItsUid(t *testing.T) {
	dir := shortDir(t)
	made, err := Init(t.Context(), dir, "ada", 4711)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Init(t.Context(), dir, "ada", 4711); forge.KindOf(err) != forge.KindConflict {
		t.Fatalf("a second init: %v", err)
	}
	db, err := store.Open(t.Context(), filepath.Join(dir, dbFile), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := db.AuthenticatePeer(t.Context(), 4711)
	if err != nil || p.User != "ada" || p.Role != forge.RoleOperator || p.Via != forge.ViaSocket {
		t.Fatalf("got %+v, %v", p, err)
	}
	if p, err = db.Authenticate(t.Context(), made.Secret); err != nil || p.Role != forge.RoleOperator {
		t.Fatalf("got %+v, %v", p, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	_, secret, err := NewOperatorKey(t.Context(), dir, "bob")
	if err != nil {
		t.Fatal(err)
	}
	if db, err = store.Open(t.Context(), filepath.Join(dir, dbFile), store.Options{}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if p, err = db.Authenticate(t.Context(), secret); err != nil || p.User != "bob" || p.Role != forge.RoleOperator {
		t.Fatalf("got %+v, %v", p, err)
	}
}
