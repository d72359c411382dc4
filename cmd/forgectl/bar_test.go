package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forge-ml/forge-ml/internal/api/apitest"
	"github.com/forge-ml/forge-ml/internal/api/server"
)

// registering runs a command against a site whose registrations last as long as meanwhile does; that gets the
// site, and what waits until standard error, which is a terminal, shows something.
func registering(t *testing.T, line string, front func(http.Handler) http.Handler, meanwhile func(f *apitest.Fake, shown func(string))) (out, errOut string) {
	t.Helper()
	f := apitest.New(scriptNow)
	var stdout bytes.Buffer
	var stderr syncText
	f.Hook(func(method string) {
		if method == "AddDataset" || method == "ImportModel" {
			meanwhile(f, func(what string) {
				for deadline := time.Now().Add(20 * time.Second); !strings.Contains(stderr.String(), what); <-time.After(2 * time.Millisecond) {
					if time.Now().After(deadline) {
						t.Errorf("%q is never shown, but %q", what, stderr.String())
						return
					}
				}
			})
		}
	})
	ts := httptest.NewServer(front(server.New(f.Services(), server.Options{Version: "1.2.3"})))
	t.Cleanup(func() { ts.CloseClientConnections(); ts.Close() })
	env := map[string]string{"FORGE_SERVER": ts.URL, "FORGE_API_KEY": apitest.MemberSecret, "HOME": t.TempDir()}
	s := Streams{In: strings.NewReader(""), Out: &stdout, Err: &stderr, OutTTY: true, ErrTTY: true, Width: 80, UID: os.Getuid(), Now: time.Now, Getenv: func(k string) string { return env[k] }}
	if code := run(t.Context(), append([]string{"forgectl"}, strings.Fields(line)...), s); code != 0 {
		t.Errorf("exit %d: %s", code, stderr.String())
	}
	return stdout.String(), stderr.String()
}

func asItIs(h http.Handler) http.Handler { return h }

func TestARegistrationShowsABarThatGrowsAndLeavesNothing(t *testing.T) {
	for line, what := range map[string]string{"dataset add chat /data/chat.jsonl --on-server": "reading /dat", "model import tiny /models/tiny": "hashing /model"} {
		t.Run(line, func(t *testing.T) {
			out, shown := registering(t, line, asItIs, func(f *apitest.Fake, shown func(string)) {
				f.SetProgress(1<<30, 4<<30)
				shown("25%  1.0/4.0 GiB  ")
				f.SetProgress(3<<30, 4<<30)
				shown("75%  3.0/4.0 GiB  ")
				shown("s left")
			})
			for _, want := range []string{what, "[█", "█░", "/s  "} {
				if !strings.Contains(shown, want) {
					t.Errorf("%q is not in %q", want, shown)
				}
			}
			for _, frame := range strings.Split(shown, "\r") {
				if w := textWidth(strings.TrimSuffix(frame, "\x1b[K")); w >= 80 {
					t.Errorf("%d wide: %q", w, frame)
				}
			}
			if !strings.HasSuffix(shown, "\r\x1b[K") || strings.Contains(shown, "\n") || !strings.Contains(out, "next: ") {
				t.Errorf("it leaves %q beside %q", shown, out)
			}
		})
	}
}

func TestAServerThatDoesNotSayHowFarItIsGetsASpinner(t *testing.T) {
	before := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/v1/progress") {
				r.URL.Path, r.RequestURI = "/v1/not-there-yet", "/v1/not-there-yet"
			}
			h.ServeHTTP(w, r)
		})
	}
	for name, front := range map[string]func(http.Handler) http.Handler{"one of before the operation": before, "one that does not know yet": asItIs} {
		t.Run(name, func(t *testing.T) {
			_, shown := registering(t, "dataset add chat /data/chat.jsonl --on-server", front, func(_ *apitest.Fake, shown func(string)) {
				shown(string(spinFrames[4]) + " reading /data/chat.jsonl  ")
			})
			if strings.ContainsAny(shown, "█░%") || !strings.HasSuffix(shown, "\r\x1b[K") || strings.Contains(shown, "there") {
				t.Errorf("it shows %q", shown)
			}
		})
	}
}

func TestTheServerIsAskedFiveTimesASecondAndInAPipeNever(t *testing.T) {
	for _, tty := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var asked atomic.Int64
			var shown syncText
			a := quiet()
			a.Err, a.ErrTTY, a.Width, a.Now = &shown, tty, 80, time.Now
			stop := a.spin(t.Context(), "reading", "/nonexistent", func(context.Context) (reach, error) {
				return reach{done: asked.Add(1), total: 100}, nil
			})
			for _, c := range []struct {
				after time.Duration
				asked int64
			}{{299 * time.Millisecond, 0}, {2 * time.Millisecond, 1}, {time.Second, 6}} {
				time.Sleep(c.after)
				synctest.Wait()
				if got := asked.Load(); got != c.asked && tty || got != 0 && !tty {
					t.Errorf("terminal %t: asked %d times after another %s", tty, got, c.after)
				}
			}
			stop()
			if s := shown.String(); strings.Contains(s, "%    5/100 B") != tty || s != "" && !tty {
				t.Errorf("terminal %t: %q", tty, s)
			}
		})
	}
}

func TestTheBarFitsTheTerminal(t *testing.T) {
	const GiB = 1 << 30
	half := standing{done: 3 * GiB, total: 6 * GiB, rate: 310 << 20}
	for width, want := range map[int]string{
		40:  "hashing /… [████░░░░]  50%  9s left",
		60:  "hashing /mo… [██████░░░░░░░]  50%  3.0/6.0 GiB  9s left",
		80:  "hashing /model… [████████░░░░░░░░]  50%  3.0/6.0 GiB  310.0 MiB/s  9s left",
		120: "hashing /models/base-of-all-models [███████████████░░░░░░░░░░░░░░░]  50%  3.0/6.0 GiB  310.0 MiB/s  9s left",
	} {
		if got := barLine("hashing /models/base-of-all-models", half, width); got != want {
			t.Errorf("%d:\n%s\n%s", width, got, want)
		}
	}
	half.rows = 1234567
	want := "reading /data/chat.jsonl [██████████████░░░░░░░░░░░░░░░]  50%  3.0/6.0 GiB  1,234,567 rows  310.0 MiB/s  9s left"
	if got := barLine("reading /data/chat.jsonl", half, 120); got != want {
		t.Errorf("with rows:\n%s\n%s", got, want)
	}
	for _, text := range []string{"reading /d", "reading /" + strings.Repeat("数据", 60), "reading " + strings.Repeat("/x", 200)} {
		for _, s := range []standing{{0, 1, 0, 0}, {0, 1 << 60, 1, 5}, {1 << 59, 1 << 60, 1e17, 1 << 60}, {7, 5, 3, 0}, {1023, 1 << 20, 1.5, 9}, {1, 9 << 40, 1 << 20, 0}, {1<<30 - 1, 1 << 30, 1 << 29, 1234567}} {
			for width := minWidth; width < 240; width++ {
				if got := barLine(text, s, width); textWidth(got) >= width || strings.Contains(got, "100%") != (s.done >= s.total) {
					t.Errorf("%d: %d %+v %q", width, textWidth(got), s, got)
				}
			}
		}
	}
}

func TestPaceIsOfTheLastSeconds(t *testing.T) {
	p := pace{{at: scriptNow}}
	at := func(s int) time.Time { return scriptNow.Add(time.Duration(s) * time.Second) }
	for i, c := range []struct {
		second int
		done   int64
		want   string
	}{
		{0, 0, "0"}, {1, 100, "100"}, {2, 200, "100"}, {10, 1000, "100"}, {12, 1000, "80"}, {20, 1000, "0"}, {60, 1000, "0"},
		{61, 5, "0"}, {62, 55, "50"}, // it began anew
	} {
		if got := fmt.Sprint(p.rate(at(c.second), c.done)); got != c.want {
			t.Errorf("%d: %s, want %s", i, got, c.want)
		}
	}
}

func nobodySays(context.Context) (reach, error) { return reach{}, io.EOF }
