package daemon

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
)

// The bounds of what an eval may leave: it is read into forged's memory, and stays in its database.
const (
	maxScores      = 8 << 20
	maxEvalSamples = 256 << 20
	maxSampleLine  = 1 << 20
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
	p := packer{sum: sha256.New(), at: map[sampleKey]*packed{}}
	if why, err := d.stream(ctx, c, a, forge.StreamEvalSamples, maxEvalSamples, p.add); why != "" || err != nil {
		return nil, why, err
	}
	if found.Samples, why = p.done(in); why != "" {
		return nil, why, nil
	}
	found.Facts.Leak = d.leak(ctx, spec)
	return found, "", nil
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

type sampleKey struct{ task, filter string }

// packed are the samples of one task under one filter, as they come.
type packed struct {
	n, bytes int64
	buf      bytes.Buffer
	zip      *gzip.Writer
}

// packer takes samples.jsonl in pieces, and keeps it by task and filter, compressed: of 256 MiB only that is in memory.
type packer struct {
	sum interface {
		Write([]byte) (int, error)
		Sum([]byte) []byte
	}
	rest  []byte
	count int64
	at    map[sampleKey]*packed
	order []sampleKey
}

func (p *packer) add(b []byte) (why string) {
	_, _ = p.sum.Write(b)
	p.rest = append(p.rest, b...)
	for {
		i := bytes.IndexByte(p.rest, '\n')
		if i < 0 {
			break
		}
		if why := p.line(p.rest[:i+1]); why != "" {
			return why
		}
		p.rest = p.rest[i+1:]
	}
	if len(p.rest) > maxSampleLine {
		return fmt.Sprintf("a line of its samples is longer than %d bytes", maxSampleLine)
	}
	p.rest = bytes.Clone(p.rest)
	return ""
}

func (p *packer) line(b []byte) (why string) {
	var in struct {
		Task   string `json:"task"`
		Filter string `json:"filter"`
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return fmt.Sprintf("line %d of its samples does not parse: %v", p.count+1, err)
	}
	key := sampleKey{in.Task, in.Filter}
	to := p.at[key]
	if to == nil {
		if len(p.at) >= maxScoreRows {
			return "its samples are of too many tasks"
		}
		to = &packed{}
		to.zip = gzip.NewWriter(&to.buf)
		p.at[key], p.order = to, append(p.order, key)
	}
	p.count++
	to.n++
	to.bytes += int64(len(b))
	_, _ = to.zip.Write(b) // into memory
	return ""
}

// done holds the samples against the scores: as many as each score is over, and byte for byte the file that scores.json vouches for.
func (p *packer) done(in scoresFile) (out []store.EvalSamples, why string) {
	if len(p.rest) > 0 {
		return nil, "its samples end inside a line"
	}
	if got := hex.EncodeToString(p.sum.Sum(nil)); got != in.Samples.SHA256 || p.count != in.Samples.Count {
		return nil, fmt.Sprintf("its samples are %d with digest %.12s; scores.json says %d with %.12s", p.count, got, in.Samples.Count, in.Samples.SHA256)
	}
	for _, t := range in.Tasks {
		for _, s := range t.Scores {
			if have := p.at[sampleKey{t.Task, s.Filter}]; !t.Group && (have == nil || have.n != s.N) {
				return nil, fmt.Sprintf("task %.80s: %.80s (%.80s) is over %d samples, and they are not all there", t.Task, s.Metric, s.Filter, s.N)
			}
		}
	}
	for _, key := range p.order {
		one := p.at[key]
		if err := one.zip.Close(); err != nil {
			return nil, err.Error()
		}
		out = append(out, store.EvalSamples{Task: key.task, Filter: key.filter, N: one.n, Bytes: one.bytes, Data: one.buf.Bytes()})
	}
	return out, ""
}
