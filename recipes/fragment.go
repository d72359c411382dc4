package recipes

import (
	"embed"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

// Fragments are parameters that several recipes share, with the metrics that come with them, by the name that `include` gives. A site's recipes may include them too.
//
//go:embed fragments/*.yaml
var fragments embed.FS

// fragmentNames lists them.
func fragmentNames() []string {
	files, err := fs.Glob(fragments, "fragments/*.yaml")
	if err != nil {
		panic("recipes: the embedded fragments do not list: " + err.Error())
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(strings.TrimPrefix(f, "fragments/"), ".yaml")
	}
	return files
}

// included are the parameters and the metrics of the fragments that a recipe names, in that order.
func (d *document) included() (out []Param, metrics []metricDoc, err error) {
	for i, name := range d.Include {
		field := fmt.Sprintf("include[%d]", i)
		if slices.Contains(d.Include[:i], name) {
			return nil, nil, d.fault(field, "%q is named twice", name)
		}
		if !slices.Contains(fragmentNames(), name) {
			return nil, nil, d.fault(field, "there is no fragment %.80q; there are: %s", name, strings.Join(fragmentNames(), ", "))
		}
		path := "fragments/" + name + ".yaml"
		b, err := fragments.ReadFile(path)
		if err != nil {
			return nil, nil, fmt.Errorf("built-in %s: %w", path, err)
		}
		f := document{source: "built-in " + path}
		var doc struct {
			Params  []paramDoc  `yaml:"params"`
			Metrics []metricDoc `yaml:"metrics"`
		}
		if err := f.decode(b, &doc); err != nil {
			return nil, nil, err
		}
		for j, in := range doc.Params {
			p, err := f.param(fmt.Sprintf("params[%d]", j), in)
			if err != nil {
				return nil, nil, err
			}
			out = append(out, p)
		}
		metrics = append(metrics, doc.Metrics...)
	}
	return out, metrics, nil
}

// Metric is one number that a recipe's runs report.
type Metric struct {
	Name string `json:"name"`
	Unit string `json:"unit,omitempty"`
	Doc  string `json:"doc"`
}

var metricName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_./-]*$`)

// maxMetrics bounds how many metrics a recipe names.
const maxMetrics = 200

func (d *document) metrics(r *Recipe) error {
	if len(d.Metrics) > maxMetrics {
		return d.fault("metrics", "has %d entries; at most %d are allowed", len(d.Metrics), maxMetrics)
	}
	for i, m := range d.Metrics {
		at := fmt.Sprintf("metrics[%d]", i)
		switch {
		case len(m.Name) > maxParamName || !metricName.MatchString(m.Name):
			return d.fault(at+".name", "%.80q is not the name of a metric; want letters, digits, _ . / - such as rewards/margins", m.Name)
		case slices.ContainsFunc(r.Metrics, func(o Metric) bool { return o.Name == m.Name }):
			return d.fault(at+".name", "%q is declared twice", m.Name)
		case strings.TrimSpace(m.Doc) == "":
			return d.fault(at+".doc", "of %s is empty; say in a line what it is", m.Name)
		}
		r.Metrics = append(r.Metrics, Metric{m.Name, m.Unit, strings.TrimSpace(m.Doc)})
	}
	return nil
}
