package pii

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"sync"
)

// The rules are this package: what it is made from is what their digest is of.
//
//go:embed assign.go best.go card.go checksum.go cluster.go context.go email.go fold.go iban.go ip.go mask.go national.go phone.go pii.go redact.go rules.go scan.go secret.go words.go
var sources embed.FS

var sourcesSHA256 = sync.OnceValue(func() []byte {
	h := sha256.New()
	names, err := fs.Glob(sources, "*.go")
	if err != nil {
		panic(err)
	}
	for _, name := range names {
		text, err := sources.ReadFile(name)
		if err != nil {
			panic(err)
		}
		h.Write(append([]byte(name+"\n"), text...))
	}
	return h.Sum(nil)
})

// RulesSHA256 is a digest of all rules that a scanner with these options follows: equal digests find the same.
func RulesSHA256(o Options) string {
	set := byte('d')
	if o.National {
		set = 'n'
	}
	sum := sha256.Sum256(append([]byte{set}, sourcesSHA256()...))
	return hex.EncodeToString(sum[:])
}
