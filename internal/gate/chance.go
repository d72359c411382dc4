package gate

import (
	"hash/fnv"
	"io"
)

// chance is where resamples are drawn from: splitmix64 (Steele, Lea and Flood 2014), written out here so that neither a machine nor a release of Go
// changes what a seed gives.
type chance struct{ state uint64 }

// chanceOf gives each benchmark numbers of its own, whatever else is in the suite.
func chanceOf(seed int64, m Benchmark) *chance {
	h := fnv.New64a()
	for _, s := range []string{m.Task, "\x00", m.Filter, "\x00", m.Metric} {
		_, _ = io.WriteString(h, s) // into memory
	}
	start := chance{uint64(seed)}
	return &chance{start.next() ^ h.Sum64()}
}

func (c *chance) next() uint64 {
	c.state += 0x9e3779b97f4a7c15
	z := c.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// float is evenly between 0 and 1, neither of them.
func (c *chance) float() float64 { return (float64(c.next()>>12) + 0.5) / (1 << 52) }

func (c *chance) normal() float64 { return phiInv(c.float()) }
