package pii_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset/pii"
)

// seeds are texts in which all rules have something to look at.
var seeds = []string{
	"e-mail: ann@example.org and \"john doe\"@example.org, ann [at] example [dot] org, git@github.com:a/b.git", "phone +1-212-555-0123\ncall (212) 555-0123 x12, +44 (0)20 7946 0958, 06 12 34 56 78, 001-212-555-0123",
	"credit card 4111 1111 1111 1111\ncredit card 4111-1111-1111-1111\n41\u200b11111111111111 ３７８２８２２４６３１０００５", "IBAN DE89370400440532013000 or DE89 3704 0044 0532 0130 00", "SSN 536-22-1234\nssn 536221234 078-05-1120",
	"IP 81.2.69.142\n2001:4860:4860::8888 ::ffff:1.2.3.4 fe80::1 1:2:3:4:5:6:7:8", "ghp_aB3dEf7GhaB3dEf7GhaB3dEf7GhaB3dEf7Gh AKIAIOSFODNN7EXAMPLE hooks.slack.com/services/T0ABCDEFG/B0ABCDEFG/abcdefghijklmnopqrstuvwx",
	"password = \"hunter22\" api_key: 9f8e7d6c5b4a39281706f5e4d3c2b1a0 postgres://app:s3cr3t@db.example.com/x my password is hunter22", "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOP\n-----END RSA PRIVATE KEY-----",
	"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U 3831384262:AAwHtbuvyQWQ7nZTb6KAKWnfDl4JCElesLP", "00:1b:44:11:3a:b7 AB 12 34 56 C 943 476 5919 529.982.247-25 12345678Z 131052-308T RSSMRA85T10A562S",
	"[EMAIL] [PHONE] 5551234567 [CREDIT_CARD] 4111111111111111", "phone " + strings.Repeat("x", 40) + " ann@example.org 5551234567 99", "\xff\xfe@\xc3.\xef\xbc+\xe2\x80-1(2)3", "1e+10 +12345678901 a+12345678 12.34.56.78.90 2024-01-15T10:30:45Z",
	"password: ann@example.org1 key=ann@example.org", "tel 5551234567 5551234568 5551234569", "1-2-3-4-5-6-7-8-9-0-1-2-3-4-5-6-7-8-9-0-1-2-3-4-5-6-7-8", "((((((+++++@@@@@:::::=====-----_____", "Order 4539578763621486 card 4539578763621486",
}

// check holds a text to all that must be true of any, and says what is not.
func check(t *testing.T, s, fresh *pii.Scanner, text []byte) {
	t.Helper()
	found := s.Scan(nil, text)
	if again := fresh.Scan(nil, text); !slices.Equal(found, again) {
		t.Fatalf("a scanner that has looked at other texts finds something else in %q: %v, %v", text, found, again)
	}
	end, valid := 0, utf8.Valid(text)
	for _, f := range found {
		if f.Start < end || f.End <= f.Start || f.End > len(text) {
			t.Fatalf("%v after %d in %q", f, end, text)
		}
		end = f.End
		if valid && (!utf8.RuneStart(text[f.Start]) || f.End < len(text) && !utf8.RuneStart(text[f.End])) {
			t.Fatalf("%v cuts a character of %q", f, text)
		}
		if pii.AtLeast(f.Confidence, forge.ConfidenceMedium) && !sound(f.Entity, string(text[f.Start:f.End])) {
			t.Fatalf("%q in %q is no %s", text[f.Start:f.End], text, f.Entity)
		}
	}
	for _, w := range expected(string(text)) {
		if !slices.ContainsFunc(found, func(f pii.Finding) bool { return f.Start < w.End && w.Start < f.End }) {
			t.Fatalf("%s %q was not found in %q: %v", w.Entity, text[w.Start:w.End], text, found)
		}
	}
	for _, least := range []forge.Confidence{forge.ConfidenceLow, forge.ConfidenceMedium, forge.ConfidenceHigh} {
		at, shown := 0, []byte{}
		out := s.Redact(nil, text, least, func(f pii.Finding) {
			if f.Start < at || f.End > len(text) {
				t.Fatalf("redacted %v after %d in %q", f, at, text)
			}
			shown = append(append(shown, text[at:f.Start]...), pii.Placeholder(f.Entity)...)
			at = f.End
		})
		if shown = append(shown, text[at:]...); !bytes.Equal(out, shown) {
			t.Fatalf("what was noted makes %q and not %q", shown, out)
		}
		if valid && !utf8.Valid(out) {
			t.Fatalf("redacting %q cut a character: %q", text, out)
		}
		if again := s.Redact(nil, out, least, func(f pii.Finding) { t.Fatalf("%v is found in the redacted %q of %q", f, out, text) }); !bytes.Equal(out, again) {
			t.Fatalf("redacting %q again gives %q", out, again)
		}
	}
}

func FuzzScan(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	s := pii.New(pii.Options{National: true})
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 4096 {
			return
		}
		check(t, s, pii.New(pii.Options{National: true}), text)
	})
}

// What a fuzzer would do in hours, in a second: seeds cut, joined and spoilt by chance.
func TestTheScannerAgreesWithTheOracleOnSpoiltTexts(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 28))
	s := pii.New(pii.Options{National: true})
	for range 3000 {
		var text []byte
		for range 1 + r.IntN(4) {
			p := seeds[r.IntN(len(seeds))]
			a := r.IntN(len(p))
			text = append(text, p[a:a+r.IntN(len(p)-a+1)]...)
			text = append(text, " \n\n,:[\""[r.IntN(7)])
		}
		for range r.IntN(4) {
			text[r.IntN(len(text))] = "0123456789 -.:@=[]+(\n\xef\xe2az"[r.IntN(25)]
		}
		check(t, s, pii.New(pii.Options{National: true}), text)
	}
	for _, text := range seeds {
		check(t, s, pii.New(pii.Options{National: true}), []byte(text))
	}
}

func TestTheDigestIsOfAllRules(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := os.ReadFile("rules.go")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := bytes.Cut(rules, []byte("//go:embed "))
	line, _, _ := bytes.Cut(after, []byte("\n"))
	var want []string
	for _, n := range names {
		if !strings.HasSuffix(n, "_test.go") {
			want = append(want, n)
		}
	}
	if got := strings.Fields(string(line)); !slices.Equal(got, want) {
		t.Errorf("embedded are %v; the package is made from %v", got, want)
	}
	if a, b := pii.RulesSHA256(pii.Options{}), pii.RulesSHA256(pii.Options{National: true}); len(a) != 64 || a == b || a != pii.RulesSHA256(pii.Options{}) {
		t.Errorf("digests %q and %q", a, b)
	}
}

func TestAMaskShowsFormAndPrefixAndNoMore(t *testing.T) {
	for _, c := range []struct {
		e           forge.PIIEntity
		match, want string
	}{
		{forge.PIIEmail, "ann@example.org", "a**@*******.***"},
		{forge.PIIPhone, "+49 (0)30 1234567", "+** (*)** *******"},
		{forge.PIICreditCard, "4111 1111 1111 1111", "4*** **** **** ****"},
		{forge.PIIIBAN, "DE89370400440532013000", "D*********************"},
		{forge.PIIEmail, "jürgen@example.org", "j*****@*******.***"},
		{"secret_github", "ghp_aB3dEf7GhaB3dEf7GhaB3dEf7GhaB3dEf7Gh", "ghp_********"},
		{"secret_password", "hunter22", "********"},
		{"secret_private_key", "-----BEGIN RSA PRIVATE KEY-----\nMII", "-----BEGIN********"},
		{"secret_openai", "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789", "sk-proj-********"},
	} {
		if got := pii.Mask(c.e, []byte(c.match)); got != c.want {
			t.Errorf("%s %q is shown as %q, want %q", c.e, c.match, got, c.want)
		}
	}
	// Of letters and digits at most one stays, whatever the match is; of secrets none but the prefix of the kind.
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		match := make([]byte, 1+r.IntN(90))
		for i := range match {
			match[i] = byte(r.IntN(256))
		}
		shown := 0
		for _, c := range []byte(pii.Mask(forge.PIIPhone, match)) {
			if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c >= 0x80 {
				shown++
			}
		}
		if shown > 1 {
			t.Fatalf("%q is shown as %q", match, pii.Mask(forge.PIIPhone, match))
		}
	}
}
