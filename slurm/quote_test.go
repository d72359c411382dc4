package slurm

import (
	"os/exec"
	"strings"
	"testing"
)

// bashSplits has a real bash split what quoteAll made.
func bashSplits(t *testing.T, in []string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/bash", "--noprofile", "--norc", "-c", `printf '%s\0' `+quoteAll(in))
	cmd.Env = []string{"LC_ALL=C"}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q: %v", in, err)
	}
	all := strings.Split(string(out), "\x00")
	return all[:len(all)-1]
}

func FuzzBashReadsBackEveryQuotedWord(f *testing.F) {
	for _, s := range []string{"", "a", "a b", "'", "''", `\`, `\'`, "$(id)", "`id`", "${HOME}", "a\nb", "\n", "!x", "#c", "~", "-n", "*", "[a]", "{a,b}", "a;b", "a|b", "&", "<(x)", "\xff\xfe", "\x01", "é", "=x", "'\n'", "\r", "\t"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		s = strings.ReplaceAll(s, "\x00", "") // no word of a program holds one; values with one are refused before
		in := []string{s, "x" + s, s + s}
		got := bashSplits(t, in)
		if len(got) != len(in) || got[0] != in[0] || got[1] != in[1] || got[2] != in[2] {
			t.Errorf("%q became %q", in, got)
		}
	})
}
