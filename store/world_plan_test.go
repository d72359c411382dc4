package store

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
)

// A start reads the world before anything else. What it costs must depend on what lives, and not on
// the millions that have ended.
func TestAStartScansNoTableOfEndedRuns(t *testing.T) {
	db, err := Open(context.Background(), filepath.Join(t.TempDir(), "forge.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for name, query := range map[string]string{
		"live runs": liveQuery, "needed runs": neededQuery, "how many": countQuery, "preempted runs": preemptedQuery,
		"past attempts": "SELECT a.run FROM " + pastQuery + " WHERE a.state = 'ended' ORDER BY a.run, a.number",
		"whole runs":    "SELECT r.*, s.spec FROM runs AS r JOIN run_specs AS s ON s.run = r.id WHERE " + wholeCondition,
	} {
		t.Run(name, func(t *testing.T) {
			rows, err := db.read.QueryContext(context.Background(), "EXPLAIN QUERY PLAN "+query)
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			steps := 0
			for rows.Next() {
				var id, parent, unused int
				var step string
				if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
					t.Fatal(err)
				}
				steps++
				if strings.HasPrefix(step, "SCAN") && !strings.Contains(step, "USING INDEX runs_live") && !strings.Contains(step, "USING INDEX attempts_live") &&
					!strings.Contains(step, "USING INDEX runs_waiting") {
					t.Errorf("%s", step)
				}
			}
			if err := rows.Err(); err != nil || steps == 0 {
				t.Errorf("%d steps, %v", steps, err)
			}
		})
	}
}
