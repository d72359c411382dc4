package pii_test

import (
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset/pii"
)

// chat is ordinary text of a training set: some years, times, colons, names and a list.
const chat = `User: Could you explain how I should plan a two week trip through Japan in spring? I have about 14 days, and I'd like to see the cherry blossoms.
Assistant: Of course! Late March to early April is usually the best time; in 2023 the peak in Tokyo was on March 22. Here is a rough plan:

1. Tokyo (4 days): Ueno Park, the Meguro River, and a day in Kamakura. Trains run every 10 minutes.
2. Kanazawa (2 days) - the gardens of Kenroku-en are well-known, and there are few tourists before 9:30.
3. Kyoto (5 days): the Philosopher's Path, Arashiyama and, if the weather is good, a walk up to Fushimi Inari at night.
4. Osaka and Himeji (3 days), because the castle is surrounded by a thousand cherry trees.

Book the hotels early, since prices rise by 40% or more. A rail pass is worth it only when you take more than three long rides; otherwise buy single tickets.
`

func BenchmarkScanOfOrdinaryText(b *testing.B) {
	text := []byte(strings.Repeat(chat, 64))
	s, found := pii.New(pii.Options{}), []pii.Finding{}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		found = s.Scan(found[:0], text)
	}
	if len(found) > 0 {
		b.Errorf("%v", found[0])
	}
}

func BenchmarkScanOfRows(b *testing.B) {
	text := []byte(chat)
	for _, o := range []pii.Options{{}, {National: true}} {
		b.Run(map[bool]string{false: "default", true: "national"}[o.National], func(b *testing.B) {
			s, found := pii.New(o), []pii.Finding{}
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				found = s.Scan(found[:0], text)
			}
		})
	}
}

func BenchmarkScanOfFindings(b *testing.B) {
	text := []byte(strings.Repeat("Call +1-212-555-0123 or write to ann@example.org; card 4111 1111 1111 1111, order 4539578763621486, at 2024-01-15T10:30:45Z from 81.2.69.142.\n", 256))
	s, found := pii.New(pii.Options{}), []pii.Finding{}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		found = s.Scan(found[:0], text)
	}
}

func BenchmarkRedact(b *testing.B) {
	text := []byte(chat + "write to ann@example.org")
	s, out := pii.New(pii.Options{}), []byte{}
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		out = s.Redact(out[:0], text, forge.ConfidenceMedium, func(pii.Finding) {})
	}
}

func TestScanAllocatesNothing(t *testing.T) {
	text := []byte(strings.Repeat(chat+"ann@example.org +1-212-555-0123 4111 1111 1111 1111 DE89370400440532013000 password=hunter22x ", 4))
	s := pii.New(pii.Options{National: true})
	found := s.Scan(nil, text)
	if n := testing.AllocsPerRun(20, func() { found = s.Scan(found[:0], text) }); n != 0 {
		t.Errorf("%v allocations a text", n)
	}
}
