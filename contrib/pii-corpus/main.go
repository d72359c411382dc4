// Command pii-corpus writes a labelled corpus of texts with personal data, secrets and what only looks like them, as JSON Lines:
// {"text": …, "labels": [{"start", "end", "entity"}]}, offsets in bytes. The same seed gives the same corpus.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"

	"github.com/forge-ml/forge-ml/contrib/pii-corpus/corpus"
)

func main() {
	seed := flag.Uint64("seed", 1, "what chance follows from")
	rows := flag.Int("rows", 1000, "how many texts")
	flag.Parse()
	if err := write(*seed, *rows); err != nil {
		fmt.Fprintln(os.Stderr, "pii-corpus:", err)
		os.Exit(1)
	}
}

func write(seed uint64, rows int) error {
	out := bufio.NewWriter(os.Stdout)
	to := json.NewEncoder(out)
	to.SetEscapeHTML(false)
	for _, r := range corpus.Generate(seed, rows) {
		if err := to.Encode(r); err != nil {
			return err
		}
	}
	return out.Flush()
}
