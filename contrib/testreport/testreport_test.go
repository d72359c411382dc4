package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// stream writes go test -json lines: "action test" for a test of package p, "action" for p itself.
func stream(events ...string) string {
	var b strings.Builder
	for _, e := range events {
		action, test, _ := strings.Cut(e, " ")
		fmt.Fprintf(&b, `{"Action":%q,"Package":"github.com/forge-ml/forge-ml/p","Test":%q}`+"\n", action, test)
	}
	return b.String()
}

func TestReadGoTest(t *testing.T) {
	for _, tc := range []struct {
		name            string
		stream          string
		passed          int
		failed, skipped []string
	}{
		{
			name:   "leaves count, parents of subtests do not",
			stream: stream("run A", "run A/x", "run A/y", "pass A/x", "pass A/y", "pass A", "run B", "pass B", "pass"),
			passed: 3,
		}, {
			name:   "a failed leaf counts once, not again in its parents",
			stream: stream("run A", "run A/x", "run A/x/1", "run A/y", "fail A/x/1", "fail A/x", "pass A/y", "fail A", "fail"),
			passed: 1, failed: []string{"p A/x/1"},
		}, {
			name:   "a parent that fails by itself counts",
			stream: stream("run A", "run A/x", "pass A/x", "fail A", "fail"),
			passed: 1, failed: []string{"p A"},
		}, {
			name:   "a skipped test is told apart",
			stream: stream("run A", "skip A", "run B", "pass B", "pass"),
			passed: 1, skipped: []string{"p A"},
		}, {
			name:   "a package without test files is nothing",
			stream: stream("start", "skip"),
		}, {
			name:   "a package that does not compile is a failure",
			stream: stream("start", "fail"),
			failed: []string{"p (the package)"},
		}, {
			name:   "a package that never says how it ended is a failure",
			stream: stream("start", "run A", "pass A"),
			passed: 1, failed: []string{"p (the package)"},
		}, {
			name:   "a test that never ended (os.Exit, a panic elsewhere) is a failure",
			stream: stream("run A", "pass A", "run B", "fail"),
			passed: 1, failed: []string{"p B"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := readGoTest(strings.NewReader(tc.stream), io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if got.passed != tc.passed || !slices.Equal(got.failed, tc.failed) || !slices.Equal(got.skipped, tc.skipped) {
				t.Fatalf("got %+v, want passed %d, failed %q, skipped %q", got, tc.passed, tc.failed, tc.skipped)
			}
		})
	}

	t.Run("a test that leaves itself out of test-fast is no skipped test, and one that gives another reason is", func(t *testing.T) {
		in := stream("run A", "run B", "run B/x") + `{"Action":"output","Package":"github.com/forge-ml/forge-ml/p","Test":"A","Output":"    a_test.go:7: not in test-fast: a Slurm cluster\n"}
{"Action":"output","Package":"github.com/forge-ml/forge-ml/p","Test":"B/x","Output":"    a_test.go:9: no root\n"}
` + stream("skip A", "skip B/x", "pass B", "pass")
		got, err := readGoTest(strings.NewReader(in), io.Discard)
		if err != nil || !slices.Equal(got.leftOut, []string{"p A"}) || !slices.Equal(got.skipped, []string{"p B/x"}) {
			t.Fatalf("%+v, %v", got, err)
		}
	})

	t.Run("what a failed test said is shown, what a passed one said is not", func(t *testing.T) {
		var log bytes.Buffer
		in := `{"Action":"run","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Test":"A","Output":"all is well\n"}
{"Action":"pass","Package":"p","Test":"A"}
{"Action":"run","Package":"p","Test":"B"}
{"Action":"output","Package":"p","Test":"B","Output":"b_test.go:7: boom\n"}
{"Action":"fail","Package":"p","Test":"B"}
{"Action":"fail","Package":"p"}
`
		if _, err := readGoTest(strings.NewReader(in), &log); err != nil {
			t.Fatal(err)
		}
		if got := log.String(); !strings.Contains(got, "boom") || strings.Contains(got, "all is well") {
			t.Fatalf("log: %q", got)
		}
	})
}

func TestReadJUnit(t *testing.T) {
	const file = `<?xml version="1.0"?><testsuites><testsuite name="pytest" tests="5">
<testcase classname="tests.a" name="ok" time="0.1"/>
<testcase classname="tests.a" name="bad"><failure message="no">trace</failure></testcase>
<testcase classname="tests.a" name="broken"><error message="no">trace</error></testcase>
<testcase classname="tests.a" name="left_out"><skipped message="no"/></testcase>
<testcase classname="tests.a" name="printing"><system-out>x</system-out></testcase>
</testsuite></testsuites>`
	got, err := readJUnit(strings.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	if got.passed != 2 || !slices.Equal(got.failed, []string{"tests.a::bad", "tests.a::broken"}) || !slices.Equal(got.skipped, []string{"tests.a::left_out"}) {
		t.Fatalf("got %+v", got)
	}
	if _, err := readJUnit(strings.NewReader("<testsuites><testsuite>")); err == nil {
		t.Fatal("a truncated file was accepted")
	}
}

func TestNothingIsLeftOutForItsLengthUnlessAskedToBeShort(t *testing.T) {
	dir := t.TempDir()
	said := stream("run A", "run B") + `{"Action":"output","Package":"github.com/forge-ml/forge-ml/p","Test":"A","Output":"    a_test.go:7: not in test-fast: a Slurm cluster"}` + "\n" + stream("skip A", "pass B", "pass")
	if err := os.WriteFile(filepath.Join(dir, "go"), []byte("#!/bin/sh\ncat <<'END'\n"+said+"END\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for arg, fails := range map[string]bool{"-short": false, "-race": true} {
		got, err := runGoTest(t.Context(), &bench{out: dir}, io.Discard, "go test", nil, []string{arg, "./..."})
		if err != nil || got.passed != 1 || (got.verdict(true) != nil) != fails || (len(got.leftOut) == 0) != fails {
			t.Errorf("with %s: %+v, %v", arg, got, err)
		}
	}
}

func TestThePackageThatIsTestedAsItShipsIsNotTestedTwiceInFast(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\ncase $1 in\nlist) printf 'm/cmd/forgectl\\nm/cmd/forgectl/x\\nm/store\\n' ;;\n*) echo \"$@\" >" + dir + "/asked ;;\nesac\n"
	if err := os.WriteFile(filepath.Join(dir, "go"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	if _, err := goTestsBut("go test", "./cmd/forgectl", "-short").do(t.Context(), &bench{out: dir}, io.Discard); err != nil {
		t.Fatal(err)
	}
	if asked, err := os.ReadFile(filepath.Join(dir, "asked")); err != nil || !strings.HasSuffix(string(asked), " -short m/cmd/forgectl/x m/store\n") {
		t.Errorf("asked for %q, %v", asked, err)
	}
	if _, err := goTestsBut("go test", "./cmd/gone", "-short").do(t.Context(), &bench{out: dir}, io.Discard); err == nil {
		t.Error("a package that is not there was left out")
	}
}

// fixed is a step that reports a tally.
func fixed(name string, counts bool, t tally, err error) step {
	return step{name: name, timeout: time.Minute, counts: counts, do: func(_ context.Context, _ *bench, log io.Writer) (tally, error) {
		fmt.Fprintln(log, "the output of", name)
		return t, err
	}}
}

func TestRunAll(t *testing.T) {
	run := func(t *testing.T, steps ...step) (string, error) {
		t.Helper()
		var out bytes.Buffer
		err := runAll(t.Context(), &out, &bench{out: t.TempDir()}, steps)
		return out.String(), err
	}
	last := func(out string) string {
		all := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
		return all[len(all)-1]
	}

	t.Run("the last line is the sum over the runners, alone", func(t *testing.T) {
		out, err := run(t, fixed("lint", false, tally{}, nil), fixed("go", true, tally{passed: 40}, nil), fixed("py", true, tally{passed: 2}, nil))
		if err != nil || last(out) != "42 passed, 0 failed" {
			t.Fatalf("err %v, last line %q", err, last(out))
		}
		if strings.Contains(out, "the output of") {
			t.Fatalf("success was not quiet:\n%s", out)
		}
	})
	t.Run("after tests that failed the other runners run, and the sum names all", func(t *testing.T) {
		out, err := run(t, fixed("go", true, tally{passed: 3, failed: []string{"p A"}}, errors.New("exit status 1")), fixed("py", true, tally{passed: 1, failed: []string{"q B"}}, errors.New("exit status 1")), fixed("more", true, tally{passed: 1}, nil))
		if err == nil || !strings.Contains(err.Error(), "go: ") || !strings.Contains(err.Error(), "py: ") || !strings.Contains(out, "the output of go") || last(out) != "5 passed, 2 failed" {
			t.Fatalf("err %v, output:\n%s", err, out)
		}
		if tail := out[strings.LastIndex(out, "in all"):]; !strings.Contains(tail, "p A") || !strings.Contains(tail, "q B") {
			t.Fatalf("the end does not name them:\n%s", tail)
		}
	})
	t.Run("a build that failed ends it", func(t *testing.T) {
		out, err := run(t, fixed("go", true, tally{passed: 3}, nil), fixed("build", false, tally{}, errors.New("exit status 1")), fixed("never", true, tally{passed: 1}, nil))
		if err == nil || !strings.Contains(out, "the output of build") || strings.Contains(out, "never") || last(out) != "3 passed, 0 failed" {
			t.Fatalf("err %v, output:\n%s", err, out)
		}
	})
	t.Run("a runner that ran no test fails", func(t *testing.T) {
		if out, err := run(t, fixed("go", true, tally{}, nil)); err == nil {
			t.Fatalf("passed:\n%s", out)
		}
	})
	t.Run("a skipped test fails", func(t *testing.T) {
		if out, err := run(t, fixed("go", true, tally{passed: 9, skipped: []string{"p A"}}, nil)); err == nil || last(out) != "9 passed, 1 failed" {
			t.Fatalf("err %v, output:\n%s", err, out)
		}
	})
	t.Run("a failed test fails although its runner exits 0", func(t *testing.T) {
		if out, err := run(t, fixed("py", true, tally{passed: 9, failed: []string{"x"}}, nil)); err == nil {
			t.Fatalf("passed:\n%s", out)
		}
	})
	t.Run("a step over its limit is ended, with what it started", func(t *testing.T) {
		s := step{name: "hangs", timeout: 100 * time.Millisecond, do: func(ctx context.Context, _ *bench, log io.Writer) (tally, error) {
			return tally{}, command{args: []string{"sh", "-c", "sleep 60 & wait"}, stdout: log, stderr: log}.run(ctx)
		}}
		start := time.Now()
		out, err := run(t, s)
		if err == nil || !strings.Contains(out, "limit") || time.Since(start) > 8*time.Second {
			t.Fatalf("err %v after %s:\n%s", err, time.Since(start), out)
		}
	})
}

func TestPytestRunsWithTheInterpreterOfItsEnvironment(t *testing.T) {
	dir := t.TempDir()
	interpreter := func(name string) string {
		path := filepath.Join(dir, name)
		script := "#!/bin/sh\nfor a; do case $a in --junitxml=*) echo '<testsuites><testsuite><testcase classname=\"" + name + "\" name=\"x\"><failure/></testcase></testsuite></testsuites>' >\"${a#--junitxml=}\";; esac; done\n"
		if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	b := &bench{out: dir, python: interpreter("newest"), lowest: interpreter("lowest")}
	t.Chdir(filepath.Join("..", ".."))
	for name, s := range map[string]step{"newest": pythonTests("recipes/python", ""), "lowest": lowestTests} {
		got, err := s.do(t.Context(), b, io.Discard)
		if err != nil || !slices.Equal(got.failed, []string{name + "::x"}) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestTheTestsOfTrainingAreSharedOutOnceEach(t *testing.T) {
	dir := t.TempDir()
	interpreter := filepath.Join(dir, "python")
	script := `#!/bin/sh
for a; do
	case $a in
	--junitxml=*) to=${a#--junitxml=} ;;
	tests/*) cases="$cases<testcase classname=\"of\" name=\"$a\"><failure/></testcase>" ;;
	esac
done
echo "<testsuites><testsuite>$cases</testsuite></testsuites>" >"$to"
`
	if err := os.WriteFile(interpreter, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join("..", ".."))
	got, err := trainingTests("").do(t.Context(), &bench{out: dir, python: interpreter}, io.Discard)
	files, _ := filepath.Glob("recipes/python/tests/test_*.py")
	want := make([]string, len(files))
	for i, f := range files {
		want[i] = "of::" + strings.TrimPrefix(f, "recipes/python/")
	}
	slices.Sort(got.failed)
	if err != nil || len(want) < 10 || !slices.Equal(got.failed, want) {
		t.Errorf("ran %v, %v\nwant %v", got.failed, err, want)
	}
}
