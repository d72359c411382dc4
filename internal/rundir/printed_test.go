package rundir

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// numbered is what a rank may have printed: each line names its own place, so that none can be taken for another.
func numbered(from, to int) []byte {
	var b bytes.Buffer
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "%063d\n", i)
	}
	return b.Bytes()
}

func TestWhatIsKeptOfAStreamKeepsItsPlace(t *testing.T) {
	for name, punch := range map[string]func(int, int64, int64) error{
		"holes":    punchHole,
		"no holes": func(int, int64, int64) error { return unix.EOPNOTSUPP },
	} {
		t.Run(name, func(t *testing.T) {
			at := At(t.TempDir(), 1)
			if err := os.MkdirAll(at.RankDir(0), 0o750); err != nil {
				t.Fatal(err)
			}
			f, err := CreateAppend(at.StdoutPath(0))
			if err != nil {
				t.Fatal(err)
			}
			const limit = 4 << 20
			p := OpenPrinted(f, at.StdoutPath(0), limit)
			p.punch = punch
			defer p.Close()
			var files Files
			firsts, lines, follower := 0, 0, int64(0)
			var seen bytes.Buffer
			for range 12 { // a rank that prints 1 MiB between two looks, and one who follows it
				if _, err := f.Write(numbered(lines, lines+16384)); err != nil {
					t.Fatal(err)
				}
				lines += 16384
				for {
					c, err := files.Read(context.Background(), at, "stdout.0", follower, 1<<20)
					if err != nil {
						t.Fatal(err)
					}
					if c.Next == follower {
						break
					}
					seen.Write(c.Data)
					follower = c.Next
				}
				first, err := p.Bound()
				if err != nil {
					t.Fatal(err)
				}
				if first {
					firsts++
				}
				st, err := f.Stat()
				if err != nil || st.Size() != int64(lines*64) {
					t.Fatalf("the file has %d bytes, want %d; %v", st.Size(), lines*64, err)
				}
				if used := st.Sys().(*syscall.Stat_t).Blocks * 512; used > limit+64<<10 {
					t.Fatalf("%d bytes are used of the disk, the limit is %d", used, limit)
				}
			}
			if firsts != 1 {
				t.Errorf("it was said %d times", firsts)
			}
			if !bytes.Equal(seen.Bytes(), numbered(0, lines)) {
				t.Error("who followed did not see every byte once")
			}
			// Who comes later sees the beginning, one line about the rest, and the newest.
			var late bytes.Buffer
			for offset := int64(0); ; {
				c, err := files.Read(context.Background(), at, "stdout.0", offset, 100_000)
				if err != nil {
					t.Fatal(err)
				}
				if c.Next == offset {
					break
				}
				late.Write(c.Data)
				offset = c.Next
			}
			head, rest, ok := strings.Cut(late.String(), "\n[forge: ")
			_, tail, _ := strings.Cut(rest, "]\n")
			if !ok || head != string(numbered(0, limit/4/64)) || len(tail) < limit/4 || strings.Contains(tail, "[forge: ") {
				t.Fatalf("%d bytes before, %d after", len(head), len(tail))
			}
			if n := len(tail) / 64; tail != string(numbered(lines-n, lines)) {
				t.Error("what is newest is not what was printed last")
			}
		})
	}
}

func TestZerosThatARankPrintedItselfAreNoHole(t *testing.T) {
	at := At(t.TempDir(), 1)
	if err := os.MkdirAll(at.RankDir(0), 0o750); err != nil {
		t.Fatal(err)
	}
	want := []byte("a\x00b\n")
	if err := os.WriteFile(at.StdoutPath(0), want, 0o640); err != nil {
		t.Fatal(err)
	}
	for _, record := range []string{"", "nonsense", `{"from":0,"to":1000000}`, `{"from":3,"to":1}`} {
		if record != "" {
			if err := os.WriteFile(at.StdoutPath(0)+cutSuffix, []byte(record), 0o640); err != nil {
				t.Fatal(err)
			}
		}
		var files Files
		if c, err := files.Read(context.Background(), at, "stdout.0", 0, 100); err != nil || !bytes.Equal(c.Data, want) {
			t.Errorf("with %q: %q, %v", record, c.Data, err)
		}
	}
}
