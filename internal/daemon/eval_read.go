package daemon

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/store"
)

// The bounds of what an eval may leave: it is read into forged's memory, and stays in its database.
const (
	maxScores      = 8 << 20
	maxEvalSamples = api.MaxEvalSamples
	maxSampleLine  = api.MaxSampleLine
	maxScoreRows   = 20_000
	scoresSchema   = 1
	evalReadLimit  = 10 * time.Minute
)

// scoresFile is output/scores.json, as forge_train/evaluate.py writes it.
type scoresFile struct {
	Schema int         `json:"schema"`
	RunID  forge.RunID `json:"run_id"`
	Suite  struct {
		Name    string `json:"name"`
		SHA256  string `json:"sha256"`
		Version int    `json:"version"`
	} `json:"suite"`
	Harness map[string]string `json:"harness"`
	Model   struct {
		SHA256 string `json:"sha256"`
		Base   string `json:"base_sha256"`
	} `json:"model"`
	DType        string  `json:"dtype"`
	Device       string  `json:"device"`
	BatchSize    int     `json:"batch_size"`
	Seed         int64   `json:"seed"`
	MaxLength    int     `json:"max_length"`
	Limit        int64   `json:"limit"`
	ChatTemplate string  `json:"chat_template_sha"`
	Seconds      float64 `json:"seconds"`
	Tasks        []struct {
		Task    string `json:"task"`
		Version string `json:"version"`
		Hash    string `json:"task_hash"`
		NShot   int    `json:"n_shot"`
		Group   bool   `json:"group"`
		N       struct {
			Original  int64 `json:"original"`
			Effective int64 `json:"effective"`
		} `json:"n_samples"`
		Scores []struct {
			Metric      string   `json:"metric"`
			Filter      string   `json:"filter"`
			Value       *float64 `json:"value"`
			StdErr      *float64 `json:"stderr"`
			N           int64    `json:"n"`
			Higher      *bool    `json:"higher_is_better"`
			Aggregation string   `json:"aggregation"`
		} `json:"scores"`
	} `json:"tasks"`
	Samples struct {
		Count  int64  `json:"count"`
		Bytes  int64  `json:"bytes"`
		SHA256 string `json:"sha256"`
	} `json:"samples"`
}

// readEval reads what an eval left and holds it against what was submitted. why is what does not hold; an error is of the one that
// was asked to read, who is asked again.
func (d *Daemon) readEval(ctx context.Context, c *Cluster, r forge.Run, a forge.Attempt) (found *store.EvalFound, why string, err error) {
	ctx, cancel := context.WithTimeout(ctx, evalReadLimit)
	defer cancel()
	spec, err := d.pinSpec(ctx, r.Spec)
	if err != nil {
		return nil, "", err
	}
	var text bytes.Buffer
	if why, err := d.stream(ctx, c, a, forge.StreamScores, maxScores, func(b []byte) string { text.Write(b); return "" }); why != "" || err != nil {
		return nil, why, err
	}
	var in scoresFile
	if err := json.Unmarshal(text.Bytes(), &in); err != nil {
		return nil, fmt.Sprintf("scores.json does not parse: %v", err), nil
	}
	if found, why = asFound(in, r, spec); why != "" {
		return nil, why, nil
	}
	if in.Samples.Bytes > maxEvalSamples {
		return nil, fmt.Sprintf("its samples are %d bytes; at most %d are kept", in.Samples.Bytes, maxEvalSamples), nil
	}
	p := newPacker()
	if why, err := d.stream(ctx, c, a, forge.StreamEvalSamples, maxEvalSamples, p.add); why != "" || err != nil {
		return nil, why, err
	}
	if why := p.done(found); why != "" {
		return nil, why, nil
	}
	found.Facts.Leak = d.leak(ctx, spec)
	found.ID, found.Name, found.CreatedAt = string(r.ID), strconv.FormatInt(r.Number, 10), time.Now()
	found.Comparison, err = d.compareFound(ctx, r, spec, found)
	return found, "", err
}

// stream reads a whole file of an attempt, piece by piece.
func (d *Daemon) stream(ctx context.Context, c *Cluster, a forge.Attempt, name string, limit int64, take func([]byte) (why string)) (string, error) {
	for offset := int64(0); ; {
		chunk, err := c.Files.Read(ctx, a.ExternalID, name, offset, readChunk)
		switch {
		case forge.KindOf(err) == forge.KindPrecondition && err != nil: // a link or the like in its place
			return fmt.Sprintf("its %s cannot be read: %v", name, err), nil
		case err != nil:
			return "", fmt.Errorf("read %s of run %s: %w", name, a.Run, err)
		case chunk.Size > limit:
			return fmt.Sprintf("its %s are %d bytes; at most %d are read", name, chunk.Size, limit), nil
		case len(chunk.Data) == 0 && offset == 0:
			return fmt.Sprintf("all ranks exited 0 and there are no %s", name), nil
		case len(chunk.Data) == 0:
			return "", nil
		}
		if why := take(chunk.Data); why != "" {
			return why, nil
		}
		offset = chunk.Next
	}
}

// asFound is what the file says, if it is of the run that was submitted and whole.
func asFound(in scoresFile, r forge.Run, spec forge.RunSpec) (*store.EvalFound, string) {
	var model forge.InputRef
	if spec.Model != nil {
		model = *spec.Model
	}
	base := ""
	if model.Base != nil {
		base = model.Base.SHA256
	}
	limit, _ := spec.Whole("eval.limit")
	switch {
	case in.Schema != scoresSchema:
		return nil, fmt.Sprintf("scores.json has schema %d; this forged reads %d", in.Schema, scoresSchema)
	case in.RunID != r.ID:
		return nil, fmt.Sprintf("scores.json is of run %.40q", in.RunID)
	case in.Suite.Name != spec.Suite.Name || in.Suite.SHA256 != spec.Suite.SHA256:
		return nil, fmt.Sprintf("scores are of suite %.64s (%.12s); %s (%.12s) was submitted", in.Suite.Name, in.Suite.SHA256, spec.Suite.Name, spec.Suite.SHA256)
	case in.Model.SHA256 != model.SHA256 || in.Model.Base != base:
		return nil, fmt.Sprintf("scores are of model %.12s over %.12s; %s (%.12s over %.12s) was submitted", cmp.Or(in.Model.SHA256, "none"), cmp.Or(in.Model.Base, "none"), model.Name, model.SHA256, cmp.Or(base, "none"))
	case in.Limit != limit:
		return nil, fmt.Sprintf("scores are limited to %d samples; %d was submitted", in.Limit, limit)
	case len(in.Tasks) == 0:
		return nil, "scores.json has no tasks"
	}
	e := forge.Eval{Run: r.ID, RunNumber: r.Number, Model: model.Name, ModelID: forge.ModelVersionID(model.ID), Suite: in.Suite.Name, SuiteSHA256: in.Suite.SHA256, Limited: limit > 0}
	e.Facts = forge.EvalFacts{SuiteVersion: in.Suite.Version, Harness: in.Harness, ModelSHA256: in.Model.SHA256, BaseSHA256: in.Model.Base, DType: in.DType, Device: in.Device, BatchSize: in.BatchSize,
		Seed: in.Seed, MaxLength: in.MaxLength, Limit: in.Limit, ChatTemplate: in.ChatTemplate, Samples: in.Samples.Count, SamplesSHA: in.Samples.SHA256, Seconds: in.Seconds}
	seen := map[[3]string]bool{}
	for _, t := range in.Tasks {
		if t.N.Effective < 1 || t.N.Effective > t.N.Original || limit == 0 && t.N.Effective != t.N.Original {
			return nil, fmt.Sprintf("task %.80s evaluated %d of %d samples", t.Task, t.N.Effective, t.N.Original)
		}
		e.Facts.Tasks = append(e.Facts.Tasks, forge.EvalTask{Task: t.Task, Version: t.Version, Hash: t.Hash, NShot: t.NShot, Group: t.Group, Original: t.N.Original, Effective: t.N.Effective})
		for _, s := range t.Scores {
			key := [3]string{t.Task, s.Filter, s.Metric}
			switch {
			case s.Value == nil || math.IsNaN(*s.Value) || math.IsInf(*s.Value, 0):
				return nil, fmt.Sprintf("task %.80s: %.80s has no value", t.Task, s.Metric)
			case s.N < 1 || seen[key] || len(e.Scores) >= maxScoreRows:
				return nil, fmt.Sprintf("task %.80s: %.80s is there twice, over nothing, or one of too many", t.Task, s.Metric)
			}
			seen[key] = true
			e.Scores = append(e.Scores, forge.EvalScore{Task: t.Task, Filter: s.Filter, Metric: s.Metric, Value: *s.Value, StdErr: s.StdErr, N: s.N, Higher: s.Higher, Aggregation: s.Aggregation})
		}
	}
	return &store.EvalFound{Eval: e}, ""
}
