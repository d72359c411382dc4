package forge

// Grain is how much of a row is looked for in other data.
type Grain string

// The grains.
const (
	GrainRow    Grain = "row"    // all that is said in it
	GrainPrompt Grain = "prompt" // all that is said before the answer, but for what the system says
	GrainText   Grain = "text"   // any one text in it that is long enough to be no commonplace; none of the system
)

// Grains lists them, the largest first.
var Grains = []Grain{GrainRow, GrainPrompt, GrainText}

// Overlap is how many rows of one set of data stand in another.
type Overlap struct {
	A       string         `json:"a" doc:"Where it was looked for: usually what was trained on"`
	B       string         `json:"b" doc:"What was looked for: usually what a model is judged by"`
	RowsA   int64          `json:"rows_a"`
	RowsB   int64          `json:"rows_b"`
	MinText int            `json:"min_text" doc:"Characters, normalised, from which a single text counts"`
	Found   []OverlapFound `json:"found" doc:"For each grain, once exactly and once normalised"`
}

// OverlapFound is what was found at one grain.
type OverlapFound struct {
	Grain      Grain          `json:"grain" enum:"row,prompt,text"`
	Normalised bool           `json:"normalised" doc:"Compared by NFKC, in lower case, white space and punctuation folded; otherwise byte for byte"`
	Of         int64          `json:"of" doc:"Rows of B that have something to look for at this grain"`
	Rows       int64          `json:"rows" doc:"Rows of B of which it stands in A"`
	Share      float64        `json:"share" doc:"rows / of, 0 to 1"`
	First      []OverlapPlace `json:"first" doc:"The first few"`
}

// OverlapPlace is one text at both its places.
type OverlapPlace struct {
	B string `json:"b" doc:"FILE:LINE"`
	A string `json:"a" doc:"FILE:LINE, where it stands first"`
}

// Any says whether anything was found.
func (o Overlap) Any() bool { return o.Worst().Rows > 0 }

// Worst is where most rows were found.
func (o Overlap) Worst() (w OverlapFound) {
	for _, f := range o.Found {
		if f.Rows > w.Rows {
			w = f
		}
	}
	return w
}
