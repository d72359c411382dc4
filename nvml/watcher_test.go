//go:build linux && cgo

package nvml_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/nvml"
)

// watcherOf watches with a child that is a shell script: it can misbehave in ways that no fake library can.
func watcherOf(t *testing.T, body string) *nvml.Watcher {
	t.Helper()
	path := filepath.Join(t.TempDir(), "forged")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nPATH=/usr/bin:/bin\n"+body+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	w := nvml.NewWatcher(nvml.WatchOptions{Self: path, Every: time.Second})
	nvml.Hasten(w, 5*time.Second, time.Millisecond, time.Hour)
	return w
}

// run runs it until the test ends; what it tells comes through the channel.
func run(t *testing.T, w *nvml.Watcher) <-chan nvml.News {
	t.Helper()
	news := make(chan nvml.News, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx, func(n nvml.News) { news <- n })
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return news
}

func next(t *testing.T, news <-chan nvml.News, what string, is func(nvml.News) bool) nvml.News {
	t.Helper()
	limit := time.After(20 * time.Second)
	var seen []string
	for {
		select {
		case n := <-news:
			if is(n) {
				return n
			}
			if n.Look != nil {
				seen = append(seen, string(n.Look.State)+" "+n.Look.Detail)
			}
		case <-limit:
			t.Fatalf("no %s; seen: %s", what, strings.Join(seen, " | "))
		}
	}
}

func inState(s forge.NVMLState) func(nvml.News) bool {
	return func(n nvml.News) bool { return n.Look != nil && n.Look.State == s }
}

// lookLine prints a look of this moment; seen says how many GPUs it has.
const lookLine = `look() { echo '{"look":{"at":"'$(date -u +%Y-%m-%dT%H:%M:%S.%NZ)'","state":"ok","driver":"570.1","gpus":[{"uuid":"GPU-a","index":0,"minor":0,"type":"H100"}]}}'; }
`

func TestAWatcherTellsWhatItsChildSays(t *testing.T) {
	news := run(t, watcherOf(t, lookLine+`look; echo '{"events":[{"at":"2026-11-26T10:00:00Z","uuid":"GPU-a","kind":"xid","xid":79,"count":3}]}'; cat`))
	n := next(t, news, "look", inState(forge.NVMLOK))
	if len(n.Look.GPUs) != 1 || n.Look.GPUs[0].UUID != "GPU-a" || n.Look.Driver != "570.1" {
		t.Errorf("got %+v", n.Look)
	}
	n = next(t, news, "event", func(n nvml.News) bool { return len(n.Events) > 0 })
	if e := n.Events[0]; e.XID != 79 || e.Count != 3 || e.UUID != "GPU-a" || e.Kind != forge.GPUEventXID {
		t.Errorf("got %+v", e)
	}
}

func TestTheChildIsToldHowOftenAndAtWhatToLook(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forged")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho \"$*\" >&2; exit 7\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	w := nvml.NewWatcher(nvml.WatchOptions{Self: path, Every: 200 * time.Millisecond, UUIDs: []string{"GPU-a", "GPU-b"}})
	n := next(t, run(t, w), "word about its end", inState(forge.NVMLError))
	if !strings.Contains(n.Look.Detail, "nvml watch --every 200ms --uuids GPU-a,GPU-b") {
		t.Errorf("got %q", n.Look.Detail)
	}
}

func TestAChildThatDiesIsReplacedAndTheReasonIsTold(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "second")
	news := run(t, watcherOf(t, lookLine+`if [ -e `+mark+` ]; then look; cat; fi; : > `+mark+`
echo 'forged: symbol lookup error: undefined symbol: nvmlDeviceGetNewest' >&2; exit 127`))
	n := next(t, news, "word about its end", inState(forge.NVMLError))
	for _, w := range []string{"exit code 127", "undefined symbol: nvmlDeviceGetNewest"} {
		if !strings.Contains(n.Look.Detail, w) {
			t.Errorf("%q does not say %q", n.Look.Detail, w)
		}
	}
	next(t, news, "look of its successor", inState(forge.NVMLOK))
}

func TestChildrenThatDieAgainAndAgainLeaveTheWatcherBlindUntilOneStays(t *testing.T) {
	count := filepath.Join(t.TempDir(), "count")
	news := run(t, watcherOf(t, lookLine+`echo >> `+count+`; if [ $(wc -l < `+count+`) -gt 6 ]; then look; cat; fi; kill -SEGV $$`))
	n := next(t, news, "blindness", inState(forge.NVMLBlind))
	for _, w := range []string{"signal 11", "5 times in a row"} {
		if !strings.Contains(n.Look.Detail, w) {
			t.Errorf("%q does not say %q", n.Look.Detail, w)
		}
	}
	next(t, news, "look after it", inState(forge.NVMLOK))
}

func TestAChildThatSaysNothingInTimeIsHungAndKilled(t *testing.T) {
	w := watcherOf(t, lookLine+`look; exec sleep 1000`)
	nvml.Hasten(w, 200*time.Millisecond, time.Millisecond, time.Hour)
	n := next(t, run(t, w), "hang", inState(forge.NVMLHung))
	if !strings.Contains(n.Look.Detail, "within 200ms") {
		t.Errorf("got %q", n.Look.Detail)
	}
}

func TestWhatIsNoDocumentEndsTheChild(t *testing.T) {
	for name, c := range map[string]struct{ body, says string }{
		"garbage":          {`echo hello; sleep 1000`, `"hello"`},
		"an unknown state": {`echo '{"look":{"state":"splendid"}}'; sleep 1000`, "splendid"},
		"silence for ever": {`exec >&-; exec sleep 1000`, "signal 9"},
		"a flood":          {`yes aaaaaaaa | tr -d '\n'`, "more than 4194304 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			n := next(t, run(t, watcherOf(t, c.body)), "word about it", inState(forge.NVMLError))
			if !strings.Contains(n.Look.Detail, c.says) {
				t.Errorf("%q does not say %q", n.Look.Detail, c.says)
			}
		})
	}
}

func TestAMachineWithoutTheLibraryIsNoFailure(t *testing.T) {
	news := run(t, watcherOf(t, `echo '{"look":{"at":"2026-11-26T10:00:00Z","state":"no_driver","detail":"no NVML library","gpus":[]}}'`))
	for range 2 * 5 { // each a child that came to its end by itself, and none counts
		if n := next(t, news, "look", func(n nvml.News) bool { return n.Look != nil }); n.Look.State != forge.NVMLNoDriver {
			t.Fatalf("got %+v", n.Look)
		}
	}
}

func TestNowIsALookThatWasBegunAfterTheCall(t *testing.T) {
	w := watcherOf(t, lookLine+`look; while read -r line; do [ "$line" = look ] || exit 9; echo '{"look":{"at":"2020-01-01T00:00:00Z","state":"ok","gpus":[]}}'; look; done`)
	if _, err := w.Now(t.Context()); forge.KindOf(err) != forge.KindUnavailable {
		t.Errorf("before it runs: %v", err)
	}
	news := run(t, w)
	next(t, news, "first look", inState(forge.NVMLOK))
	before := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	l, err := w.Now(ctx)
	if err != nil || l.At.Before(before) || len(l.GPUs) != 1 {
		t.Errorf("asked at %s, got %+v, %v", before, l, err)
	}
}

func TestNowLooksForALibraryThatWasNotThere(t *testing.T) {
	w := watcherOf(t, `echo '{"look":{"at":"'$(date -u +%Y-%m-%dT%H:%M:%S.%NZ)'","state":"no_driver","detail":"no NVML library","gpus":[]}}'`)
	nvml.Hasten(w, 5*time.Second, time.Hour, time.Hour)
	next(t, run(t, w), "first look", inState(forge.NVMLNoDriver))
	for range 2 {
		before := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		l, err := w.Now(ctx)
		cancel()
		if err != nil || l.State != forge.NVMLNoDriver || l.At.Before(before) {
			t.Errorf("asked at %s, got %+v, %v", before, l, err)
		}
	}
}

func TestNowSaysWhyNothingIsSeen(t *testing.T) {
	w := watcherOf(t, lookLine+`look; read -r line; echo 'driver: out of order' >&2; exit 3`)
	nvml.Hasten(w, 5*time.Second, time.Hour, time.Hour)
	news := run(t, w)
	next(t, news, "first look", inState(forge.NVMLOK))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := w.Now(ctx); forge.KindOf(err) != forge.KindUnavailable {
		t.Errorf("the child ended: %v", err)
	}
	next(t, news, "word about its end", inState(forge.NVMLError))
	if _, err := w.Now(ctx); forge.KindOf(err) != forge.KindUnavailable || !strings.Contains(err.Error(), "exit code 3") {
		t.Errorf("no child: %v", err)
	}
}

func TestNobodyIsLeftWhenAWatcherEnds(t *testing.T) {
	for name, body := range map[string]string{
		"a child that hangs up when it is hung up on": lookLine + `look; cat`,
		"a child that does not listen":                lookLine + `look; trap '' TERM; sleep 1000`,
	} {
		t.Run(name, func(t *testing.T) {
			w := watcherOf(t, body)
			marker := "FAKENVML_STATE=" + t.TempDir()
			w = nvml.NewWatcher(nvml.WatchOptions{Self: nvml.SelfOf(w), FakeState: strings.TrimPrefix(marker, "FAKENVML_STATE=")})
			nvml.Hasten(w, 5*time.Second, time.Millisecond, time.Hour)
			ctx, cancel := context.WithCancel(t.Context())
			seen, done := make(chan struct{}, 1000), make(chan struct{})
			go func() {
				defer close(done)
				w.Run(ctx, func(nvml.News) { seen <- struct{}{} })
			}()
			<-seen
			if len(childrenWith(t, marker)) == 0 {
				t.Fatal("there is no child to begin with")
			}
			cancel()
			<-done
			if left := childrenWith(t, marker); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}
