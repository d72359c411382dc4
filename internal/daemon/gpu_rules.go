package daemon

import (
	"path/filepath"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/health"
)

// maxRulesSize bounds the site's file of rules: it travels with every attempt.
const maxRulesSize = 256 << 10

// healthRules are the site's changes to the rules of GPU health, read and checked.
func (c GPUConfig) healthRules() (forge.HealthRules, error) {
	var rules forge.HealthRules
	if c.RulesFile != "" {
		b, err := readBounded(c.RulesFile, maxRulesSize)
		if err != nil {
			return rules, forge.Invalidf("gpus.rules_file", "%s cannot be read: %w", c.RulesFile, err)
		}
		if rules, err = health.Parse(b); err != nil {
			return rules, inFile(c.RulesFile, err)
		}
	}
	rules.Patience = c.AppPatience.D()
	if _, err := health.New(rules); err != nil {
		return rules, inFile(c.RulesFile, err)
	}
	return rules, nil
}

// inFile says in which file an error is, and that it is one of the configuration.
func inFile(path string, err error) error {
	return forge.Invalidf("gpus.rules_file", "%s: %w", filepath.Base(path), err).WithHint("%s", forge.HintOf(err))
}
