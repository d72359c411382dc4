package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

// completeMost bounds what a server is asked for at a press of Tab.
const completeMost = 100

// names lists what may stand where help says kind. What the server knows costs one small request.
func (a *app) names(ctx context.Context, kind, word string) []candidate {
	switch kind {
	case "PATH":
		return []candidate{{text: filesMark}}
	case "STATE":
		return words(texts(forge.RunStates))
	case "ROLE":
		return words(texts(forge.Roles))
	case "REASON":
		return words(texts(forge.RevokeReasons))
	case "EVENT":
		return words(texts(forge.EventTypes))
	case "FORM":
		return words([]string{"table", "tsv", "json"})
	case "LINEAGE-FORM":
		return words([]string{"table", "tsv", "json", formTree, formDot})
	case "KIND":
		return words(append([]string{"auto"}, texts(forge.DatasetKinds)...))
	case "PRESET":
		return words(datasetPresets)
	case "PII-POLICY":
		return words(texts(piiPolicies))
	case "CONFIDENCE":
		return words(texts(confidences))
	case "OVERLAP":
		return words(texts(forge.OverlapPolicies))
	case "CATCH-UP":
		return words(texts(forge.CatchUpPolicies))
	case "ON-REGRESSION":
		return words(texts(forge.RegressionPolicies))
	case "SHELL":
		return words([]string{"bash", "zsh", "fish"})
	case "SORT":
		var out []string
		for _, s := range runSorts {
			out = append(out, s, "-"+s)
		}
		return words(out)
	case "CONTEXT":
		return a.contextNames()
	}
	ask, known := askers[kind]
	if !known {
		return nil
	}
	cl, err := a.connect()
	if err != nil {
		return nil
	}
	defer cl.Close()
	out, err := ask(ctx, cl, word)
	if err != nil {
		return nil
	}
	return out
}

func words(list []string) []candidate {
	out := make([]candidate, len(list))
	for i, w := range list {
		out[i].text = w
	}
	return out
}

func (a *app) contextNames() []candidate {
	cfg, err := a.loadConfig()
	if err != nil {
		return nil
	}
	var out []candidate
	for _, n := range cfg.names() {
		out = append(out, candidate{n, cfg.Contexts[n].Server})
	}
	return out
}

type asker func(ctx context.Context, cl *client.Client, word string) ([]candidate, error)

var askers = map[string]asker{
	"RUN": runNames, "RECIPE": recipeNames,
	"SUITE": func(ctx context.Context, cl *client.Client, _ string) ([]candidate, error) {
		items, err := cl.Suites(ctx)
		return each1(items, func(s api.SuiteRow) candidate { return candidate{s.Name, s.Doc} }), err
	},
	"DATASET": func(ctx context.Context, cl *client.Client, word string) ([]candidate, error) {
		l, err := cl.Datasets(ctx, nameListing(word))
		return versions(l.Items, word, func(d forge.Dataset) (string, int, string) {
			last := d.Versions[len(d.Versions)-1]
			return d.Name, len(d.Versions), fmt.Sprintf("dataset, %d rows", last.Rows)
		}), err
	},
	"MODEL": func(ctx context.Context, cl *client.Client, word string) ([]candidate, error) {
		l, err := cl.Models(ctx, nameListing(word))
		return versions(l.Items, word, func(m forge.Model) (string, int, string) {
			last := m.Versions[len(m.Versions)-1]
			return m.Name, len(m.Versions), string(last.Kind) + " model, " + size(last.Bytes)
		}), err
	},
	"USER": func(ctx context.Context, cl *client.Client, word string) ([]candidate, error) {
		l, err := cl.Users(ctx, nameListing(word))
		return each1(l.Items, func(u forge.User) candidate { return candidate{u.Name, string(u.Role)} }), err
	},
	"TENANT": func(ctx context.Context, cl *client.Client, word string) ([]candidate, error) {
		l, err := cl.Tenants(ctx, nameListing(word))
		return each1(l.Items, func(t forge.Tenant) candidate { return candidate{t.Name, "tenant"} }), err
	},
	"SCHEDULE": func(ctx context.Context, cl *client.Client, word string) ([]candidate, error) {
		l, err := cl.Schedules(ctx, nameListing(word))
		return each1(l.Items, func(s api.Schedule) candidate { return candidate{s.Name, s.Cron + " in " + s.TZ} }), err
	},
	"KEY-ID": func(ctx context.Context, cl *client.Client, _ string) ([]candidate, error) {
		l, err := cl.Keys(ctx, api.Listing{Limit: completeMost})
		live := slices.DeleteFunc(l.Items, func(k forge.Key) bool { return k.RevokedAt != nil })
		return each1(live, func(k forge.Key) candidate {
			return candidate{string(k.ID), strings.TrimSpace(k.User + " " + string(k.Role) + " " + k.Name)}
		}), err
	},
	"HOOK": func(ctx context.Context, cl *client.Client, word string) ([]candidate, error) {
		l, err := cl.Hooks(ctx, api.HookListing{Listing: nameListing(word)})
		return each1(l.Items, func(h forge.Hook) candidate { return candidate{h.Name, string(h.Kind)} }), err
	},
	"CLUSTER": func(ctx context.Context, cl *client.Client, _ string) ([]candidate, error) {
		items, err := cl.Clusters(ctx)
		return each1(items, func(c api.ClusterView) candidate { return candidate{string(c.Name), plural(c.GPUs, "GPU")} }), err
	},
	"NODE": func(ctx context.Context, cl *client.Client, _ string) ([]candidate, error) {
		items, err := cl.Nodes(ctx)
		return each1(items, func(n api.NodeView) candidate { return candidate{string(n.Name), string(n.State)} }), err
	},
}

func each1[T any](items []T, of func(T) candidate) []candidate {
	out := make([]candidate, len(items))
	for i, it := range items {
		out[i] = of(it)
	}
	return out
}

func nameListing(word string) api.Listing {
	name, _, _ := strings.Cut(word, "@")
	return api.Listing{Limit: completeMost, Name: name}
}

// versions offers names, and behind an @ the versions of that one.
func versions[T any](items []T, word string, of func(T) (name string, versions int, about string)) []candidate {
	var out []candidate
	before, _, behind := strings.Cut(word, "@")
	for _, it := range items {
		name, n, about := of(it)
		if !behind {
			out = append(out, candidate{name, about})
			continue
		}
		for v := n; v > 0 && name == before; v-- {
			out = append(out, candidate{name + "@" + strconv.Itoa(v), about})
		}
	}
	return out
}

func runNames(ctx context.Context, cl *client.Client, _ string) ([]candidate, error) {
	l, err := cl.RunRows(ctx, api.RunFilter{Limit: completeMost})
	return each1(l.Items, func(r api.RunRow) candidate {
		return candidate{strconv.FormatInt(r.Number, 10), strings.TrimSpace(string(r.State) + " " + r.Recipe + " " + r.Name)}
	}), err
}

func recipeNames(ctx context.Context, cl *client.Client, _ string) ([]candidate, error) {
	items, err := cl.Recipes(ctx)
	return each1(items, func(r api.RecipeRow) candidate { return candidate{r.Name, r.Doc} }), err
}
