package slurm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// program makes a directory with one program of Slurm's name that does what the script says.
func program(t *testing.T, name, script string) Tools {
	t.Helper()
	bin := t.TempDir()
	must(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	return Tools{Bin: bin, Timeout: 10 * time.Second}
}

func TestTroubles(t *testing.T) {
	for words, want := range map[string]Trouble{
		"sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)":                                                                                TroubleAway,
		"sbatch: error: Batch job submission failed: Socket timed out on send/recv operation":                                                                                             TroubleAway,
		"slurm_load_jobs error: Zero Bytes were transmitted or received":                                                                                                                  TroubleAway,
		"sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying":                                                                                                    TroubleBusy,
		"squeue: error: RPC rate limit exceeded 5 times with REQUEST_JOB_INFO, sleeping then trying again":                                                                                TroubleBusy,
		"sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)":        TroubleBusy,
		"sbatch: error: QOSMaxWallDurationPerJobLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)": TroubleRefused,
		"sbatch: error: invalid partition specified: nosuch\nsbatch: error: Batch job submission failed: Invalid partition name specified":                                                TroubleRefused,
		"sbatch: error: Batch job submission failed: Requested node configuration is not available":                                                                                       TroubleRefused,
		"sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified":                                                                          TroubleRefused,
		"sbatch: error: Batch job submission failed: I/O error writing script/environment to file":                                                                                        TroubleOther,
		"": TroubleOther,
	} {
		t.Run(words, func(t *testing.T) {
			tool := program(t, "sbatch", "cat >&2 <<'EOF'\n"+words+"\nEOF\nexit 1")
			_, err := tool.Run(t.Context(), "", "sbatch")
			if got := TroubleOf(err); got != want {
				t.Errorf("trouble %d, want %d: %v", got, want, err)
			}
			if strings.Contains(wordsOf(err), "error:") && strings.HasPrefix(words, "sbatch") {
				t.Errorf("%q still carries the program's name", wordsOf(err))
			}
		})
	}
	t.Run("no answer in time is nobody's word", func(t *testing.T) {
		tool := program(t, "squeue", "sleep 60")
		tool.Timeout = 50 * time.Millisecond
		began := time.Now()
		_, err := tool.Run(t.Context(), "", "squeue")
		var e *ToolError
		if TroubleOf(err) != TroubleAway || !errors.As(err, &e) || e.Code >= 0 {
			t.Errorf("%v", err)
		}
		if took := time.Since(began); took > 8*time.Second {
			t.Errorf("it took %s", took)
		}
	})
	t.Run("nothing of our environment reaches Slurm", func(t *testing.T) {
		t.Setenv("FORGE_SECRET", "planted")
		t.Setenv("SLURM_CONF", "/elsewhere")
		tool := program(t, "squeue", "env")
		tool.Conf = "/here/slurm.conf"
		out, err := tool.Run(context.Background(), "", "squeue")
		if err != nil || strings.Contains(out, "planted") || !strings.Contains(out, "SLURM_CONF=/here/slurm.conf\n") || !strings.Contains(out, "SLURM_TIME_FORMAT=%s\n") {
			t.Errorf("%v: %s", err, out)
		}
	})
}

func TestNothingButWhatForgeNeedsIsAskedOfSlurm(t *testing.T) {
	for name, q := range map[string]Action{
		"a job id that is an option":  {Verb: ActCancel, JobIDs: []string{"--user=root"}},
		"a job id that is a name":     {Verb: ActCancel, JobIDs: []string{"all"}},
		"a task of an array":          {Verb: ActCancel, JobIDs: []string{"7_1"}},
		"a signal that is an option":  {Verb: ActSignal, Signal: "USR1 --full", JobIDs: []string{"7"}},
		"a verb that there is not":    {Verb: "shutdown", JobIDs: []string{"7"}},
		"a verb that there is not ''": {JobIDs: []string{"7"}},
	} {
		t.Run(name, func(t *testing.T) {
			if program, args, err := q.command(); err == nil {
				t.Errorf("%s %v", program, args)
			}
		})
	}
	program, args, err := Action{Verb: ActNice, JobIDs: []string{"7", "8"}, Nice: 500}.command()
	if err != nil || program != "scontrol" || strings.Join(args, " ") != "update jobid=7,8 nice=500" {
		t.Errorf("%s %v, %v", program, args, err)
	}
}

func TestReasonsThatNeverClear(t *testing.T) {
	for reason, want := range map[string]bool{
		"PartitionTimeLimit": true, "QOSMaxWallDurationPerJobLimit": true, "AssocMaxGRESPerJob": true, "AccountNotAllowed": true,
		"BadConstraints": true, "DependencyNeverSatisfied": true, "QOSMaxNodePerJobLimit": true,
		"Resources": false, "Priority": false, "JobHeldUser": false, "JobHeldAdmin": false, "QOSMaxJobsPerUserLimit": false, "QOSGrpGRES": false,
		"ReqNodeNotAvail, UnavailableNodes:n2": false, "PartitionDown": false, "BeginTime": false, "Reservation": false, "": false, "None": false,
		"Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions": false,
	} {
		if d, got := neverClears(reason); got != want || got && d < time.Minute {
			t.Errorf("%q: %v (%s), want %v", reason, got, d, want)
		}
	}
}
