package nvml

import (
	"testing"
	"testing/synctest"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

func TestEqualEventsOfASecondAreOneAfterTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines [][]forge.GPUEvent
		j := newJoiner(func(events []forge.GPUEvent) { lines = append(lines, events) })
		for range 20000 { // two seconds
			j.add(forge.GPUEvent{At: time.Now(), UUID: "GPU-a", Kind: forge.GPUEventXID, XID: 13, Count: 1})
			time.Sleep(100 * time.Microsecond)
		}
		synctest.Wait()
		j.add(forge.GPUEvent{UUID: "GPU-b", Kind: forge.GPUEventXID, XID: 13, Count: 1})
		if n := len(lines); n < 3 || len(lines[n-1]) != 1 || lines[n-1][0].UUID != "GPU-b" {
			t.Errorf("another GPU's was not told at once: %d lines", n)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		total := 0
		for _, l := range lines {
			total += l[0].Count
		}
		if len(lines) > 5 || total != 20001 || lines[0][0].Count != 1 {
			t.Errorf("%d lines of %d events, the first of %d", len(lines), total, lines[0][0].Count)
		}
		before := len(lines)
		j.add(forge.GPUEvent{UUID: "GPU-a", Kind: forge.GPUEventXID, XID: 13, Count: 1})
		if len(lines) != before+1 {
			t.Error("one that comes later is not told at once")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
	})
}

func TestAStormOfDifferentEventsIsBoundedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines, total := 0, 0
		j := newJoiner(func(events []forge.GPUEvent) { lines, total = lines+1, total+len(events) })
		for xid := range 10000 {
			j.add(forge.GPUEvent{UUID: "GPU-a", Kind: forge.GPUEventXID, XID: xid, Count: 1})
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if lines > atOnce+2 || total != 10000 {
			t.Errorf("%d lines of %d events", lines, total)
		}
	})
}
