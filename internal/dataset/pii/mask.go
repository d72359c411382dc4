package pii

import (
	"strings"
	"unicode/utf8"

	forge "github.com/forge-ml/forge-ml"
)

// maskedMost bounds what Mask shows, in bytes.
const maskedMost = 64

// Mask shows the form of a match and hides what it says. Of personal data the first letter or digit and the separators stay, of a secret the prefix that its kind has and nothing
// else, its length neither: nothing can be rebuilt from it.
func Mask(e forge.PIIEntity, match []byte) string {
	if strings.HasPrefix(string(e), "secret_") {
		return secretPrefix(match) + "********"
	}
	out := make([]byte, 0, maskedMost)
	for i := 0; i < len(match) && len(out) < maskedMost; {
		_, size := utf8.DecodeRune(match[i:])
		switch c := match[i]; {
		case i == 0 && c > ' ' && c < 0x7F, c >= ' ' && c < 0x7F && !isAlnum(c):
			out = append(out, c)
		default:
			out = append(out, '*')
		}
		i += size
	}
	return string(out)
}

// secretPrefix is what all keys of a kind begin with.
func secretPrefix(match []byte) string {
	best := ""
	for _, k := range keys {
		if len(k.prefix) > len(best) && hasPrefix(match, k.prefix) && len(match) >= len(k.prefix)+12 {
			best = k.prefix
		}
	}
	switch {
	case best != "":
		return best
	case hasPrefix(match, "-----BEGIN "):
		return "-----BEGIN"
	case hasPrefix(match, "eyJ"):
		return "eyJ"
	}
	return ""
}
