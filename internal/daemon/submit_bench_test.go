package daemon

import (
	"testing"

	"github.com/rs/zerolog"

	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/store"
)

// BenchmarkSubmit is a submission without HTTP: resolve, check, commit, fold into the world.
// submit_rate (make bench) is the same from outside.
func BenchmarkSubmit(b *testing.B) {
	dir := b.TempDir() + "/s"
	made, err := Init(b.Context(), dir, "admin", NoUID)
	if err != nil {
		b.Fatal(err)
	}
	cfg, err := Config{StateDir: dir, Listen: ListenConfig{TCP: TCPOff}}.resolve()
	if err != nil {
		b.Fatal(err)
	}
	cfg.Listen.Socket = "/tmp/forge-bench.sock"
	fake := executortest.NewFake(fakeNode(0))
	d, err := New(b.Context(), Options{Config: cfg, Log: zerolog.Nop(), Clusters: []Cluster{{Name: "local", Executor: fake, Files: fake, RunRoot: dir, PollEvery: 1e9, Modules: true}}})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = d.stop.run(zerolog.Nop()) }()
	fake.SetNodes(fakeNode(1))
	d.refreshNodes(b.Context())
	p, err := d.Authenticate(b.Context(), made.Secret)
	if err != nil {
		b.Fatal(err)
	}
	b.SetParallelism(32)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := (runs{d}).submit(b.Context(), p, newBenchRun(), nil); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func newBenchRun() store.NewRun { return store.NewRun{Spec: script(1)} }
