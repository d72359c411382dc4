package daemon

import (
	"testing"
	"time"
)

func TestThousandsOfAttemptsAreLookedAtMoreSeldom(t *testing.T) {
	for _, c := range []struct {
		every time.Duration
		n     int
		want  time.Duration
	}{
		{time.Second, 0, time.Second}, {time.Second, 999, time.Second}, {time.Second, 2500, 3 * time.Second}, {time.Second, 100_000, rarestTick}, {10 * time.Second, 100_000, 10 * time.Second},
	} {
		if got := lookAgain(c.every, c.n); got != c.want {
			t.Errorf("%d attempts, every %s: %s, want %s", c.n, c.every, got, c.want)
		}
	}
}
