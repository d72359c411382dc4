package forge

import "time"

// MetricRow is what one training step reported. One row per (run, step): the newest attempt wins.
type MetricRow struct {
	Run     RunID              `json:"-"`
	Step    int64              `json:"step"`
	Attempt int                `json:"attempt"`
	Time    time.Time          `json:"time"`
	Values  map[string]float64 `json:"values"`
}

// MetricBucket is a roll-up of one key over Span steps starting at Step.
type MetricBucket struct {
	Step int64   `json:"step"`
	Span int64   `json:"span"`
	Min  float64 `json:"min"`
	Max  float64 `json:"max"`
	Last float64 `json:"last"`
}
