package dataset_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forge-ml/forge-ml/internal/dataset"
)

// BenchmarkScanMessages is the figure behind "registration reads at the speed of the digest":
// chat rows of about 1.5 KiB with the escapes and the non-ASCII text that real ones have.
func BenchmarkScanMessages(b *testing.B) {
	var file strings.Builder
	for i := 0; file.Len() < 64<<20; i++ {
		fmt.Fprintf(&file, `{"id": %d, "source": "bench", "messages": [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "%s"}, {"role": "assistant", "content": "%s"}]}`+"\n",
			i, strings.Repeat(`How do I say \"good morning\" in French?\n`, 10), strings.Repeat("Guten Tag heißt « bonjour ». The rest is plain text of an ordinary answer.", 12))
	}
	path := filepath.Join(b.TempDir(), "chat.jsonl")
	if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(file.Len()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := dataset.Scan(b.Context(), []string{path}, dataset.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
