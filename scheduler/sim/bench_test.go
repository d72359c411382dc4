package sim

import "testing"

// BenchmarkReplay is a made trace on 64x8, all told: sim and planner.
func BenchmarkReplay(b *testing.B) {
	c := Cluster{64, 8}
	jobs, err := Generate(GenerateOptions{Jobs: 16_000, Seed: 1, Cluster: c, Load: 0.9})
	if err != nil {
		b.Fatal(err)
	}
	for _, est := range []Estimates{EstimatesOracle, EstimatesProgress, EstimatesNone} {
		b.Run(string(est), func(b *testing.B) {
			o := options(b, "default", c)
			o.Estimates = est
			for b.Loop() {
				replay(b, o, jobs...)
			}
		})
	}
}
