package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
	"github.com/forge-ml/forge-ml/internal/mungetest"
	"github.com/forge-ml/forge-ml/store"
)

// mungeSite is a daemon that takes credentials of a munged of its own, and users with a uid.
type mungeSite struct {
	*rig
	*mungetest.Munged
	address string
	cl      *client.Client
}

func mungeStart(t *testing.T, change ...func(*MungeConfig)) *mungeSite {
	t.Helper()
	s := &mungeSite{Munged: mungetest.Start(t)}
	s.rig = start(t, 1, func(o *Options) {
		o.Config.Listen.TCP = "127.0.0.1:0"
		o.Config.Listen.Munge.Enabled, o.Config.Listen.Munge.Socket = true, s.Socket
		for _, c := range change {
			c(&o.Config.Listen.Munge)
		}
	})
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	b, err := os.ReadFile(filepath.Join(s.live().cfg.StateDir, addrFile))
	for deadline := time.Now().Add(20 * time.Second); err != nil; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		b, err = os.ReadFile(filepath.Join(s.live().cfg.StateDir, addrFile))
	}
	s.address = "http://" + strings.TrimSpace(string(b))
	if s.cl, err = client.New(client.Options{Address: s.address}); err != nil {
		t.Fatal(err)
	}
	for name, u := range map[string]struct {
		uid  int64
		role forge.Role
	}{"max": {4001, forge.RoleMember}, "vic": {4002, forge.RoleViewer}, "olga": {4003, forge.RoleOperator}, "gone": {4004, forge.RoleMember}} {
		if _, err := s.db.For(s.op).CreateUser(t.Context(), forge.User{Name: name, Role: u.role, UnixUID: &u.uid}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.db.For(s.op).DisableUser(t.Context(), "gone", forge.WhyLeft); err != nil {
		t.Fatal(err)
	}
	return s
}

// credential is what forgectl makes as a uid.
func (s *mungeSite) credential(t *testing.T, uid int, options ...string) string {
	t.Helper()
	return s.Encode(t, uid, api.MungePayload(s.address), options...)
}

func (s *mungeSite) refused(t *testing.T, credential string, kind forge.Kind, says string) {
	t.Helper()
	k, err := s.cl.LoginMunge(t.Context(), credential)
	if forge.KindOf(err) != kind || !strings.Contains(err.Error(), says) || k.Secret != "" {
		t.Errorf("got %v (%s), want %s: … %s", err, forge.KindOf(err), kind, says)
	}
}

func TestAMungeCredentialBecomesAKeyThatEnds(t *testing.T) {
	s := mungeStart(t)
	for _, c := range []struct {
		name string
		uid  int
		role forge.Role
		life time.Duration
	}{{"max", 4001, forge.RoleMember, 12 * time.Hour}, {"vic", 4002, forge.RoleViewer, 12 * time.Hour}, {"olga", 4003, forge.RoleOperator, time.Hour}} {
		k, err := s.cl.LoginMunge(t.Context(), s.credential(t, c.uid))
		if err != nil {
			t.Fatal(err)
		}
		if k.User != c.name || k.Role != c.role || k.Name != "munge login" || k.ExpiresAt == nil || k.ExpiresAt.Sub(k.CreatedAt).Round(time.Second) != c.life {
			t.Errorf("uid %d: got %+v", c.uid, k.Key)
		}
		p, err := s.Authenticate(t.Context(), k.Secret)
		if err != nil || p.User != c.name || p.Role != c.role || p.Home != s.op.Home {
			t.Errorf("uid %d: the key is of %+v, %v", c.uid, p, err)
		}
	}
	events, err := s.db.For(s.op).Events(t.Context(), store.EventFilter{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	logins := 0
	for _, e := range events {
		if e.Type == forge.EventKeyCreated && e.Reason == string(forge.WhyLogin) {
			logins++
		}
	}
	if logins != 3 {
		t.Errorf("%d logins are in the trail", logins)
	}
}

func TestAMungeCredentialOpensNothingElse(t *testing.T) {
	s := mungeStart(t)
	ours := api.MungePayload(s.address)
	t.Run("a second time", func(t *testing.T) {
		c := s.credential(t, 4001)
		if _, err := s.cl.LoginMunge(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		s.refused(t, c, forge.KindUnauthorized, "used before")
		s.Restart(t) // and has forgotten it
		s.refused(t, c, forge.KindUnauthorized, "used before")
	})
	t.Run("for another server", func(t *testing.T) {
		for _, address := range []string{"http://evil.example.org:7433", "http://127.0.0.1:1", "http://localhost", "unix:///tmp/other.sock", "127.0.0.1", ""} {
			s.refused(t, s.Encode(t, 4001, api.MungePayload(address)), forge.KindUnauthorized, "no name of this one")
		}
	})
	t.Run("made for another purpose", func(t *testing.T) {
		for _, payload := range []string{"", "hello", s.address, "x" + ours} {
			s.refused(t, s.Encode(t, 4001, payload), forge.KindUnauthorized, "not made for a login")
		}
	})
	t.Run("past its time", func(t *testing.T) {
		c := s.credential(t, 4001, "--ttl=1")
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for made := time.Now().Unix(); time.Now().Unix() <= made+2; <-tick.C { // munge counts whole seconds, by a coarse clock
		}
		s.refused(t, c, forge.KindUnauthorized, "past its time")
	})
	t.Run("of a uid that is nobody's, or a disabled user's", func(t *testing.T) {
		s.refused(t, s.credential(t, 4999), forge.KindUnauthorized, "uid 4999 is no user's")
		s.refused(t, s.credential(t, 4004), forge.KindUnauthorized, "uid 4004 is no user's")
		s.refused(t, s.credential(t, overflowUID), forge.KindUnauthorized, "nobody's")
	})
	t.Run("of another realm's munged", func(t *testing.T) {
		s.refused(t, mungetest.Start(t).Encode(t, 4001, ours), forge.KindUnauthorized, "not valid")
	})
	t.Run("garbage", func(t *testing.T) {
		for _, c := range []string{"", "x", "MUNGE::", "MUNGE:a b:", "--socket=/tmp/x", "MUNGE:AwQF\n:", "MUNGE:" + strings.Repeat("A", 4000) + "\n:"} {
			s.refused(t, c, forge.KindInvalid, "want MUNGE:")
		}
		s.refused(t, "MUNGE:"+strings.Repeat("A", 5000)+":", forge.KindInvalid, "4096")
		s.refused(t, "MUNGE:AwQFAABRyIrsqUpx:", forge.KindUnauthorized, "not valid")
	})
	t.Run("while munged does not answer nothing is said of the credential", func(t *testing.T) {
		c := s.credential(t, 4001)
		s.Stop()
		s.refused(t, c, forge.KindUnavailable, "munged does not answer")
		s.Restart(t)
		if _, err := s.cl.LoginMunge(t.Context(), c); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
	keys, _, err := s.db.For(s.op).Keys(t.Context(), store.Listing{Limit: 100})
	if err != nil || len(keys) > 5 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
}

func TestTheServersThatAMungeCredentialMayName(t *testing.T) {
	s := mungeStart(t, func(c *MungeConfig) { c.Names = []string{"gpu.example.org", "localhost:17433"} })
	for address, ok := range map[string]bool{
		"http://gpu.example.org:7433": true, "https://GPU.example.org": true, "http://localhost:17433": true, s.address: true,
		strings.Replace(s.address, "127.0.0.1", "localhost", 1): true, "unix://" + s.live().cfg.Listen.Socket: true,
		"http://localhost:17434": false, "http://gpu.example.org.evil.org": false, "ftp://gpu.example.org": false, "gpu.example.org": false, "unix:///elsewhere": false,
	} {
		_, err := s.cl.LoginMunge(t.Context(), s.Encode(t, 4001, api.MungePayload(address)))
		if ok != (err == nil) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestASiteTakesNoMungeCredentialUnlessItSaysSo(t *testing.T) {
	s := mungeStart(t, func(c *MungeConfig) { c.Enabled = false })
	s.refused(t, s.credential(t, 4001), forge.KindPrecondition, "takes no credentials")
}

func TestLoginsAreRationed(t *testing.T) {
	s := mungeStart(t)
	var last error
	for range 70 {
		_, last = s.cl.LoginMunge(t.Context(), "x")
	}
	var e *forge.Error
	if !errors.As(last, &e) || e.Kind != forge.KindUnavailable || !strings.Contains(e.Error(), "too many logins") {
		t.Errorf("the 70th try: %v", last)
	}
}
