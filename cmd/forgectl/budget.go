package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// parseBudget reads what of a budget is given.
func parseBudget(c *cli.Context, r *api.UpdateTenantRequest) error {
	for flag, v := range map[string]**float64{"budget": &r.Budget, "budget-gpu-hours": &r.BudgetGPUHours} {
		if !c.IsSet(flag) {
			continue
		}
		if c.String(flag) == noBound {
			*v = new(float64)
			continue
		}
		n, err := strconv.ParseFloat(c.String(flag), 64)
		if err != nil || !(n > 0 && n <= forge.MaxBudget) {
			return forge.Invalidf(flag, "%q: want a number above 0, or %s", c.String(flag), noBound)
		}
		*v = &n
	}
	if c.IsSet("budget-warn") {
		n, err := strconv.ParseFloat(c.String("budget-warn"), 64)
		if err != nil || !(n >= 0.01 && n <= 1) {
			return forge.Invalidf("budget-warn", "%q: want a part of the budget from 0.01 to 1, such as 0.8", c.String("budget-warn"))
		}
		r.BudgetWarn = &n
	}
	if c.IsSet("budget-period") {
		period := forge.BudgetPeriod(c.String("budget-period"))
		if !slices.Contains(forge.BudgetPeriods, period) {
			return forge.Invalidf("budget-period", "%q is no period; there are %s%s", string(period), joinAny(forge.BudgetPeriods), didYouMean(string(period), texts(forge.BudgetPeriods)))
		}
		r.BudgetPeriod = &period
	}
	return nil
}

// budgetText says a budget in words; empty where there is none.
func budgetText(b *forge.Budget) string {
	if b == nil {
		return ""
	}
	var parts []string
	if b.Money > 0 {
		parts = append(parts, strconv.FormatFloat(b.Money, 'f', -1, 64))
	}
	if b.GPUHours > 0 {
		parts = append(parts, strconv.FormatFloat(b.GPUHours, 'f', -1, 64)+" GPU-hours")
	}
	each := " a " + string(b.Period)
	if b.Period == forge.BudgetTotal {
		each = " in all"
	}
	return strings.Join(parts, " and ") + each
}

func spentText(u *forge.TenantUse) string {
	if u == nil || u.Budget == nil {
		return ""
	}
	b := u.Budget
	text := fmt.Sprintf("%.2f for %.1f GPU-hours, %.0f %% of it", b.Money, b.GPUHours, 100*b.Share)
	if b.Unpriced > 0 {
		text += fmt.Sprintf("; of %.1f GPU-hours the price is not known", b.Unpriced)
	}
	return text
}

func heldText(b *forge.BudgetUse) string {
	if b == nil {
		return ""
	}
	return b.Held
}

func renewedText(p *printer, b *forge.BudgetUse) string {
	if b == nil || b.RenewedAt.IsZero() {
		return ""
	}
	return p.time(b.RenewedAt)
}
