package dataset_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/forge-ml/forge-ml/internal/dataset"
	"github.com/forge-ml/forge-ml/internal/dataset/pii"
)

// BenchmarkScanMessages is the figure behind "registration reads at the speed of the digest":
// chat rows of about 1.5 KiB with the escapes and the non-ASCII text that real ones have. On a machine with other work,
// the CPU time says more than the time that passed.
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
	for name, o := range map[string]dataset.Options{"rows": {}, "pii": {PII: &pii.Options{}}, "pii, 2 threads": {PII: &pii.Options{}, Threads: 2}, "near": {Near: 0.8}} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(file.Len()))
			b.ReportAllocs()
			before := cpu(b)
			for b.Loop() {
				if _, err := dataset.Scan(b.Context(), []string{path}, o); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(cpu(b)-before)/float64(b.N)/float64(file.Len()), "cpu-ns/B")
		})
	}
}

func cpu(b *testing.B) int64 {
	b.Helper()
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return use.Utime.Nano() + use.Stime.Nano()
}
