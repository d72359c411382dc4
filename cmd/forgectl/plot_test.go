package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	forge "github.com/forge-ml/forge-ml"
)

func curve(n int, f func(i int) float64) []forge.MetricBucket {
	var out []forge.MetricBucket
	for i := range n {
		v := f(i)
		out = append(out, forge.MetricBucket{Step: int64(i) + 1, Span: 1, Min: v, Max: v, Last: v})
	}
	return out
}

func TestPlot(t *testing.T) {
	falling := func(i int) float64 { return 2 + 2*math.Exp(-float64(i)/10) }
	rolled := []forge.MetricBucket{{Step: 1, Span: 16, Min: 1, Max: 9, Last: 4}, {Step: 17, Span: 16, Min: 2, Max: 3, Last: 2}, {Step: 33, Span: 16, Min: 1, Max: 2, Last: 1}}
	for name, c := range map[string]struct {
		pts []forge.MetricBucket
		sz  plotSize
	}{
		"falling":  {curve(60, falling), plotSize{60, 14}},
		"flat":     {curve(10, func(int) float64 { return 3 }), plotSize{40, 8}},
		"one":      {curve(1, func(int) float64 { return 0 }), plotSize{40, 8}},
		"negative": {curve(30, func(i int) float64 { return -math.Sin(float64(i) / 4) }), plotSize{50, 10}},
		"rolled":   {rolled, plotSize{40, 10}},
		"nan":      {curve(10, func(i int) float64 { return []float64{1, math.NaN(), 2, math.Inf(1)}[i%4] }), plotSize{30, 8}},
		"none":     {nil, plotSize{40, 8}},
		"tiny":     {curve(60, falling), plotSize{1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			lines := plot("loss", "", c.pts, c.sz)
			for _, l := range lines {
				if n := utf8.RuneCountInString(l); n > max(c.sz.width, minPlotWidth) {
					t.Errorf("%d characters wide: %q", n, l)
				}
			}
			got, golden := strings.Join(lines, "\n")+"\n", filepath.Join("testdata", "plot", name+".txt")
			if os.Getenv("UPDATE") != "" {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}
