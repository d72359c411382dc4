package dataset

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// appendNormal appends text as it is compared where it need not be the same byte for byte: NFKC, lower case, and each run of white space
// and punctuation as one space. Symbols stay: 2 + 3 is not 2 < 3.
func appendNormal(dst, text []byte) []byte {
	from, gap := len(dst), false
	put := func(r rune) {
		switch {
		case unicode.IsSpace(r) || unicode.IsPunct(r) || unicode.IsControl(r):
			gap = true
			return
		case unicode.Is(unicode.Cf, r): // what is not seen: joiners, marks of direction
			return
		}
		if gap && len(dst) > from {
			dst = append(dst, ' ')
		}
		gap = false
		dst = utf8.AppendRune(dst, unicode.ToLower(r))
	}
	if !plainASCII(text) {
		text = norm.NFKC.Bytes(text)
	}
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		put(r)
		i += n
	}
	return dst
}

func plainASCII(text []byte) bool {
	for _, c := range text {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
