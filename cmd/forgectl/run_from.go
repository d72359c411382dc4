package main

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

// maxBundleJSON bounds bundle.json, whoever wrote it.
const maxBundleJSON = 8 << 20

// bundleFile is a bundle as it lies here.
type bundleFile struct {
	api.Bundle
	path   string
	source int64    // bytes of the working directory's archive; 0: none
	data   []string // the dataset's files in it
}

// readBundle looks through a bundle, and reads nothing but bundle.json.
func readBundle(name string) (*bundleFile, error) {
	out := &bundleFile{path: name}
	found := false
	err := eachEntry(name, func(h *tar.Header, r io.Reader) (bool, error) {
		switch {
		case h.Name == bundleJSON:
			data, err := io.ReadAll(io.LimitReader(r, maxBundleJSON))
			if err != nil {
				return false, err
			}
			if err := json.Unmarshal(data, &out.Bundle); err != nil {
				return false, forge.Invalidf("from", "%s of %s cannot be read: %v", bundleJSON, name, err)
			}
			found = true
		case h.Name == bundleSource:
			out.source = h.Size
		case strings.HasPrefix(h.Name, bundleData):
			out.data = append(out.data, h.Name)
		}
		return true, nil
	})
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, forge.Invalidf("from", "%s has no %s: it is no bundle", name, bundleJSON).WithHint("forgectl run export RUN makes one")
	case out.Format != api.BundleFormat:
		return nil, forge.Invalidf("from", "%s is a bundle of format %d; this forgectl reads format %d", name, out.Format, api.BundleFormat)
	case out.Spec.Source != nil && out.source == 0:
		return nil, forge.Invalidf("from", "%s lacks the working directory of its run (%s)", name, bundleSource)
	}
	return out, nil
}

// eachEntry goes through the regular files of a tar, as long as it is told to.
func eachEntry(name string, do func(*tar.Header, io.Reader) (more bool, err error)) error {
	f, err := os.Open(name)
	if err != nil {
		return forge.Invalidf("from", "%v", err)
	}
	defer f.Close()
	t := tar.NewReader(f)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return forge.Invalidf("from", "%s cannot be read as a tar: %v", name, err).WithHint("forgectl run export RUN makes a bundle")
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if more, err := do(h, t); err != nil || !more {
			return err
		}
	}
}

// sendSource hands the working directory in a bundle to forged, which holds it against its digest.
func (b *bundleFile) sendSource(ctx context.Context, cl *client.Client) error {
	_, err := cl.AddSnapshot(ctx, b.Spec.Source.SHA256, b.source, func() (io.ReadCloser, error) {
		r, w := io.Pipe()
		go func() {
			w.CloseWithError(eachEntry(b.path, func(h *tar.Header, from io.Reader) (bool, error) {
				if h.Name != bundleSource {
					return true, nil
				}
				_, err := io.Copy(w, from)
				return false, err
			}))
		}()
		return r, nil
	})
	return err
}

// requestOf is what has this site do what the bundle's run did: its inputs by digest, whatever they are called here.
func (a *app) requestOf(ctx context.Context, cl *client.Client, b *bundleFile) (api.SubmitRunRequest, error) {
	s := &b.Spec
	r := api.SubmitRunRequest{Name: s.Name, Recipe: s.Recipe, Params: s.Params, MaxRetries: s.MaxRetries, Register: s.Register,
		Nodes: s.Gang.Nodes, GPUsPerNode: s.Gang.GPUsPerNode, CPUsPerGPU: s.Gang.CPUsPerGPU, MemoryMiBPerGPU: s.Gang.MemoryMiBPerGPU,
		TimeLimit: s.TimeLimit, TotalTime: s.TotalTime, StartTimeout: s.StartTimeout, StallTimeout: s.StallTimeout, Grace: s.Grace}
	if s.Suite != nil {
		r.Suite = s.Suite.Name
	}
	recipe, err := cl.Recipe(ctx, s.Recipe)
	if err != nil {
		return r, err
	}
	if recipe.NeedsCommand {
		r.Command, r.Launch = s.Entry.Command, s.Launch
	}
	if recipe.SHA256 != s.RecipeSHA256 {
		fmt.Fprintf(a.Err, "warning: the recipe %s is another one here (sha256 %s) than that of the bundle (%s): the run may differ\n", clean(s.Recipe), short(recipe.SHA256), short(s.RecipeSHA256))
	}
	var unused []string
	for words, given := range map[string]bool{"the cluster and where on it": s.Cluster != "" || !s.Where.Empty(), "words for its batch system": s.Batch != nil,
		"its own software to start in": s.Runtime != nil, "its priority": s.Priority != forge.DefaultPriority, "the runs that it waited for": len(s.After) > 0} {
		if given {
			unused = append(unused, words)
		}
	}
	slices.Sort(unused)
	if len(unused) > 0 {
		fmt.Fprintf(a.Err, "note: not taken over from the bundle, since it is that site's own: %s\n", strings.Join(unused, ", "))
	}
	if s.ResumeFrom != nil {
		fmt.Fprintln(a.Err, "warning: the bundle's run began from a checkpoint of another run, which is not in it: this one begins anew unless --resume-from says otherwise")
	}
	return r, b.findInputs(ctx, cl, &r)
}

// findInputs names in a request what this site has with the digests of the bundle.
func (b *bundleFile) findInputs(ctx context.Context, cl *client.Client, r *api.SubmitRunRequest) error {
	s := &b.Spec
	base := s.Base
	if s.Start != nil { // the adapter brings its base
		base = s.Start
	}
	var missing, hints []string
	for _, in := range []struct {
		what string
		ref  *forge.InputRef
		to   *string
		find func(context.Context, *client.Client, string) (string, error)
		hint string
	}{
		{"dataset", s.Dataset, &r.Dataset, datasetOf, b.dataHint()},
		{"base", base, &r.Base, modelOf, "forgectl model import %s PATH"},
		{"reward model", s.RewardModel, &r.RewardModel, modelOf, "forgectl model import %s PATH"},
		{"model", s.Model, &r.Model, modelOf, "forgectl model import %s PATH"},
	} {
		if in.ref == nil {
			continue
		}
		if in.ref.SHA256 != "" {
			name, err := in.find(ctx, cl, in.ref.SHA256)
			if err != nil {
				return err
			}
			if *in.to = name; name != "" {
				continue
			}
		}
		name, _, _ := strings.Cut(in.ref.Name, "@")
		missing = append(missing, fmt.Sprintf("%s %s (sha256 %s)", in.what, in.ref.Name, in.ref.SHA256))
		hints = append(hints, strings.Replace(in.hint, "%s", name, 1))
	}
	if len(missing) == 0 {
		return nil
	}
	return forge.Errorf(forge.KindPrecondition, "run.submit", "this site does not have %s", strings.Join(missing, ", nor ")).
		WithHint("bring it with: %s; what counts is the content, under any name", strings.Join(hints, " && "))
}

// dataHint says how the dataset is brought in: out of the bundle, where it is in it.
func (b *bundleFile) dataHint() string {
	if len(b.data) == 0 {
		return "forgectl dataset add %s PATH" + b.layoutFlags()
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(b.data[0], bundleData), "/")
	return fmt.Sprintf("tar -xf %s %s && forgectl dataset add %%s %s", b.path, strings.TrimSuffix(bundleData, "/"), bundleData+first) + b.layoutFlags()
}

// layoutFlags are those of dataset add that read the same bytes in the same way.
func (b *bundleFile) layoutFlags() string {
	if b.Layout == nil || b.Layout.Plain() {
		return ""
	}
	kind := " --kind " + shellWord(string(b.Kind))
	if b.Layout.Preset != "" {
		return " --preset " + shellWord(b.Layout.Preset) + kind
	}
	var pairs []string
	for _, column := range slices.Sorted(maps.Keys(b.Layout.Map)) {
		pairs = append(pairs, column+"="+b.Layout.Map[column])
	}
	return " --map " + shellWord(strings.Join(pairs, ",")) + kind
}

func datasetOf(ctx context.Context, cl *client.Client, sha256 string) (string, error) {
	return byDigest(ctx, sha256, cl.Datasets, func(d forge.Dataset, yield func(int, string)) {
		for _, v := range d.Versions {
			yield(v.Number, v.SHA256)
		}
	}, func(d forge.Dataset) string { return d.Name })
}

func modelOf(ctx context.Context, cl *client.Client, sha256 string) (string, error) {
	return byDigest(ctx, sha256, cl.Models, func(m forge.Model, yield func(int, string)) {
		for _, v := range m.Versions {
			yield(v.Number, v.SHA256)
		}
	}, func(m forge.Model) string { return m.Name })
}

// byDigest looks through listings for a version with that content: NAME@VERSION, or "" when there is none.
func byDigest[T any](ctx context.Context, sha256 string, page func(context.Context, api.Listing) (api.List[T], error), versions func(T, func(int, string)), name func(T) string) (string, error) {
	found, l := "", api.Listing{Limit: api.MaxLimit}
	for {
		got, err := page(ctx, l)
		if err != nil {
			return "", err
		}
		for _, item := range got.Items {
			versions(item, func(number int, digest string) {
				if digest == sha256 && found == "" {
					found = fmt.Sprintf("%s@%d", name(item), number)
				}
			})
		}
		if found != "" || got.Next == "" {
			return found, nil
		}
		l.Cursor = got.Next
	}
}
