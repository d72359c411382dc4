package gate

import (
	"fmt"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// words says a comparison in a sentence.
func words(b *forge.BenchmarkComparison, alpha float64) string {
	var out strings.Builder
	seen := fmt.Sprintf("%s by %.4g (%.4g to %.4g at %.4g %%)", how(b.Difference), abs(b.Difference), b.Low, b.High, 100*(1-2*alpha))
	switch b.Verdict {
	case forge.CompareRegressed:
		fmt.Fprintf(&out, "%s, p %.2g: beyond chance, and not within the margin of %.4g", seen, b.PAdjusted, b.Margin)
	case forge.CompareNonInferior:
		fmt.Fprintf(&out, "%s: no worse than the margin of %.4g allows", seen, b.Margin)
		if b.High < 0 {
			out.WriteString(", though it is worse")
		}
	default:
		fmt.Fprintf(&out, "%s: neither shown to be worse nor to be within the margin of %.4g", seen, b.Margin)
		switch {
		case b.Needed > 0:
			fmt.Fprintf(&out, "; about %d pairs would settle it if they differ as these %d do", b.Needed, b.Pairs)
		case b.Pairs == 1:
			out.WriteString("; one pair says nothing of how much others would differ")
		case b.Margin == 0:
			out.WriteString("; with a margin of 0 only what is better counts as no worse, and these do not differ that way")
		default:
			out.WriteString("; no number of such pairs would settle it")
		}
	}
	if b.UpTo != nil {
		fmt.Fprintf(&out, "; no failure in %d, so up to %.2g %% are still possible at 95 %%", b.Pairs, 100**b.UpTo)
	}
	return out.String()
}

func how(d float64) string {
	switch {
	case d > 0:
		return "better"
	case d < 0:
		return "worse"
	}
	return "different"
}

func abs(x float64) float64 {
	if x < 0 {
		return -x
	}
	return x
}
