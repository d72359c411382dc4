package store_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

func aSchedule(name string) forge.Schedule {
	return forge.Schedule{Name: name, Cron: "0 3 * * *", TZ: "UTC", What: []byte(`{"recipe":"probe"}`), Overlap: forge.OverlapQueue, CatchUp: forge.CatchUpOnce,
		OnRegression: forge.RegressionBlock, Baseline: "bot@1", Role: forge.RoleMember}
}

func fired(s forge.Schedule, due time.Time, change ...func(*forge.RunSpec)) store.Fire {
	return store.Fire{Schedule: s.ID, Firing: forge.Firing{Due: due, State: forge.FiringFired, Model: "bot@2", ModelID: "V2", Baseline: "bot@1", BaselineEval: "9"},
		Run: &store.NewRun{Spec: storetest.Spec(change...)}}
}

func TestADueTimeAndItsRunAreOneWriteAndOneForEver(t *testing.T) {
	s := openSite(t)
	made, err := s.admin.AddSchedule(ctx, aSchedule("nightly"))
	must(t, err)
	due := made.Decided.Add(time.Hour).Truncate(time.Minute)
	// Many look at once: all find the same.
	var wg sync.WaitGroup
	var got [8]forge.Firing
	var errs [8]error
	for i := range got {
		wg.Go(func() { got[i], errs[i] = s.admin.Fire(ctx, fired(made, due)) })
	}
	wg.Wait()
	for i := range got {
		must(t, errs[i])
		if got[i].Run != got[0].Run || got[i].Run == 0 || !got[i].Due.Equal(due) {
			t.Fatalf("%+v and %+v", got[0], got[i])
		}
	}
	wantInt(t, s.DB, `SELECT count(*) FROM runs`, 1)
	wantInt(t, s.DB, `SELECT count(*) FROM schedule_firings`, 1)
	wantInt(t, s.DB, `SELECT count(*) FROM events WHERE type = 'schedule.fired'`, 1)
	now, err := s.admin.Schedule(ctx, "nightly")
	must(t, err)
	if !now.Decided.Equal(due) || now.Last == nil || now.Last.Run != got[0].Run {
		t.Errorf("%+v", now)
	}
	// What is refused leaves nothing, and the time is not decided.
	_, err = s.admin.Fire(ctx, fired(made, due.Add(time.Hour), func(r *forge.RunSpec) { r.After = []forge.RunID{"nobody's"} }))
	wantKind(t, err, forge.KindInvalid)
	wantInt(t, s.DB, `SELECT count(*) FROM runs`, 1)
	wantInt(t, s.DB, `SELECT count(*) FROM schedule_firings`, 1)
	if again, err := s.admin.Schedule(ctx, "nightly"); err != nil || !again.Decided.Equal(due) {
		t.Errorf("%+v, %v", again, err)
	}
	// One that was taken away fires no more, and what it did stays.
	_, err = s.admin.ChangeSchedule(ctx, "nightly", store.ScheduleRemove, "")
	must(t, err)
	_, err = s.admin.Fire(ctx, fired(made, due.Add(2*time.Hour)))
	wantKind(t, err, forge.KindPrecondition)
	if all, err := s.admin.Firings(ctx, made.ID, 10); err != nil || len(all) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
	if _, err := s.admin.AddSchedule(ctx, aSchedule("nightly")); err != nil {
		t.Errorf("its name is free again: %v", err)
	}
}

func TestASchedulesNamesFiringsAndBlocksAreItsTenantsAlone(t *testing.T) {
	s := openSite(t)
	tenant, err := s.CreateTenant(ctx, "globex")
	must(t, err)
	other := s.For(storetest.User(t, s.DB, tenant.ID, "eve", forge.RoleAdmin))
	made, err := s.admin.AddSchedule(ctx, aSchedule("nightly"))
	must(t, err)
	f, err := s.admin.Fire(ctx, fired(made, made.Decided.Add(time.Hour)))
	must(t, err)
	_, err = s.admin.RequestCancel(ctx, fmt.Sprint(f.Run), forge.CancelNow)
	must(t, err)
	ended, waiting, err := s.OpenFirings(ctx)
	if err != nil || waiting != 0 || len(ended) != 1 || ended[0].Schedule.Name != "nightly" {
		t.Fatalf("%+v, %d, %v", ended, waiting, err)
	}
	for i, first := range []bool{true, false} { // the second is told nothing anew
		if got, err := s.JudgeFiring(ctx, ended[0], forge.FiringVerdict(forge.CompareRegressed), "worse"); err != nil || got != first {
			t.Fatalf("%d: %v, %v", i, got, err)
		}
	}
	wantInt(t, s.DB, `SELECT count(*) FROM events WHERE type = 'eval.regressed'`, 1)
	if b, err := s.admin.Blocks(ctx, "V2", ""); err != nil || len(b) != 1 || b[0].Words != "worse" {
		t.Errorf("%+v, %v", b, err)
	}
	if b, err := other.Blocks(ctx, "V2", ""); err != nil || len(b) != 0 {
		t.Errorf("another tenant's: %+v, %v", b, err)
	}
	if l, _, err := other.Schedules(ctx, store.Listing{}); err != nil || len(l) != 0 {
		t.Errorf("%+v, %v", l, err)
	}
	if all, err := other.Firings(ctx, made.ID, 10); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
	_, err = other.Schedule(ctx, "nightly")
	wantKind(t, err, forge.KindNotFound)
	_, err = other.ScheduleByID(ctx, made.ID)
	wantKind(t, err, forge.KindNotFound)
	_, err = other.Fire(ctx, fired(made, made.Decided.Add(2*time.Hour)))
	wantKind(t, err, forge.KindNotFound)
	_, err = other.ChangeSchedule(ctx, "nightly", store.SchedulePause, "")
	wantKind(t, err, forge.KindNotFound)
	if _, err := other.AddSchedule(ctx, aSchedule("nightly")); err != nil {
		t.Errorf("names are a tenant's own: %v", err)
	}
}
