package store

import (
	"encoding/json"
	"strings"
	"time"
)

// stamp is a time as its column holds it: nanoseconds since 1970 UTC, 0 for the zero time.
// Integers compare and decode faster than text and lose nothing.
type stamp int64

func stampOf(t time.Time) stamp {
	if t.IsZero() {
		return 0
	}
	return stamp(t.UnixNano())
}

func (s stamp) time() time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(s)).UTC()
}

// pointer is nil for a time that is not set, as JSON that leaves it out wants it.
func (s stamp) pointer() *time.Time {
	if s == 0 {
		return nil
	}
	t := s.time()
	return &t
}

// encode writes a list or map for a JSON column; an empty one is empty text, so that nil and empty
// are the same row.
func encode[T any](n int, v T) (string, error) {
	if n == 0 {
		return "", nil
	}
	b, err := json.Marshal(v)
	return string(b), err
}

// decode reads what encode wrote.
func decode[T any](s string, v *T) error {
	if s == "" {
		return nil
	}
	return json.Unmarshal([]byte(s), v)
}

// clean makes free text (evidence, messages, paths) storable: bun writes values into the
// statement, where a NUL byte from some program's last words would fail the whole change.
func clean(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD")
}
