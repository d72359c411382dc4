package forge

import (
	"fmt"
	"strconv"
	"time"
)

// Budget bounds what a tenant may spend in a period. Zero amounts bound nothing.
type Budget struct {
	Money    float64      `json:"amount,omitempty" doc:"In the site's currency; absent: none"`
	GPUHours float64      `json:"gpu_hours,omitempty" doc:"Absent: none"`
	Period   BudgetPeriod `json:"period"`
	Warn     float64      `json:"warn" doc:"Part of it at which an event says that it goes to its end"`
}

// DefaultBudgetWarn is at which part of a budget somebody is warned where nobody says otherwise.
const DefaultBudgetWarn = 0.8

// MaxBudget bounds amounts and GPU-hours.
const MaxBudget = 1e12

// BudgetPeriod is how often a budget is renewed. Days begin at midnight UTC, weeks on Monday.
type BudgetPeriod string

// The periods.
const (
	BudgetMonth BudgetPeriod = "month"
	BudgetWeek  BudgetPeriod = "week"
	BudgetTotal BudgetPeriod = "total" // never renewed: all that the tenant ever spent
)

// BudgetPeriods lists them.
var BudgetPeriods = []BudgetPeriod{BudgetMonth, BudgetWeek, BudgetTotal}

// Start is when the period of a time began; zero: it has no beginning.
func (p BudgetPeriod) Start(now time.Time) time.Time {
	y, m, d := now.UTC().Date()
	switch p {
	case BudgetWeek:
		return time.Date(y, m, d-(int(now.UTC().Weekday())+6)%7, 0, 0, 0, 0, time.UTC)
	case BudgetTotal:
		return time.Time{}
	}
	return time.Date(y, m, 1, 0, 0, 0, 0, time.UTC)
}

// End is when it ends and the next one begins; zero: never.
func (p BudgetPeriod) End(now time.Time) time.Time {
	s := p.Start(now)
	switch p {
	case BudgetWeek:
		return s.AddDate(0, 0, 7)
	case BudgetTotal:
		return time.Time{}
	}
	return s.AddDate(0, 1, 0)
}

// None says that it bounds nothing.
func (b Budget) None() bool { return b.Money <= 0 && b.GPUHours <= 0 }

// Spending is what a tenant spent in one period.
type Spending struct {
	Since    time.Time     // beginning of the period
	Money    float64       // of what has a price
	GPUTime  time.Duration // of all
	Unpriced time.Duration // of what has none
}

// At is the spending of the period of now: nothing, where what was counted is of an earlier one.
func (s Spending) At(p BudgetPeriod, now time.Time) Spending {
	if start := p.Start(now); !s.Since.Equal(start) {
		return Spending{Since: start}
	}
	return s
}

// Add counts what an attempt had since the beginning of the period, up to now.
func (s Spending) Add(a *Attempt, gpus int, now time.Time) Spending {
	from, to := a.held()
	if to.IsZero() && a.State.Open() {
		to = now
	}
	if from.IsZero() || to.IsZero() {
		return s
	}
	had := Stretch{From: from, To: to}.Within(s.Since, time.Time{})
	s.GPUTime += had * time.Duration(gpus)
	if a.Price == nil {
		s.Unpriced += had * time.Duration(gpus)
	} else {
		s.Money += *a.Price * had.Hours()
	}
	return s
}

// Share is the part of the budget that is spent, of whichever of the two amounts it is more.
func (b Budget) Share(s Spending) float64 {
	var most float64
	if b.Money > 0 {
		most = s.Money / b.Money
	}
	if b.GPUHours > 0 {
		most = max(most, s.GPUTime.Hours()/b.GPUHours)
	}
	return most
}

// Text says how much of the budget is spent: "the budget of 1000 EUR for November is spent: 1003.20".
func (b Budget) Text(s Spending, now time.Time, currency string) string {
	amount, spent := plain(b.GPUHours)+" GPU-hours", strconv.FormatFloat(s.GPUTime.Hours(), 'f', 2, 64)
	if b.Money > 0 && s.Money/b.Money >= b.GPUHoursShare(s) {
		amount, spent = plain(b.Money)+unit(currency), strconv.FormatFloat(s.Money, 'f', 2, 64)
	}
	of := "the budget of " + amount
	start := b.Period.Start(now)
	switch b.Period {
	case BudgetMonth:
		of += start.Format(" for January")
	case BudgetWeek:
		of += start.Format(" for the week of 2 January")
	}
	if b.Share(s) >= 1 {
		return of + " is spent: " + spent
	}
	return fmt.Sprintf("%s is spent to %.0f %%: %s", of, 100*b.Share(s), spent)
}

// SpentText is Text with what follows, where the budget is spent; else empty.
func (b Budget) SpentText(s Spending, now time.Time, currency string) string {
	if b.None() || b.Share(s) < 1 {
		return ""
	}
	text := b.Text(s, now, currency)
	if end := b.Period.End(now); !end.IsZero() {
		return text + "; it is renewed on " + end.Format("2 January") + ", or an operator raises it"
	}
	return text + "; an operator can raise it"
}

// GPUHoursShare is the part of the GPU-hours that is spent.
func (b Budget) GPUHoursShare(s Spending) float64 {
	if b.GPUHours <= 0 {
		return 0
	}
	return s.GPUTime.Hours() / b.GPUHours
}

func plain(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func unit(currency string) string {
	if currency == "" {
		return ""
	}
	return " " + currency
}

// Use says how much of the budget is spent; nil where there is none.
func (b Budget) Use(s Spending, now time.Time, currency string) *BudgetUse {
	if b.None() {
		return nil
	}
	return &BudgetUse{Money: s.Money, GPUHours: s.GPUTime.Hours(), Unpriced: s.Unpriced.Hours(), Share: b.Share(s), Since: s.Since, RenewedAt: b.Period.End(now), Held: b.SpentText(s, now, currency)}
}

// BudgetUse is how much of a budget is spent.
type BudgetUse struct {
	Money     float64   `json:"spent" doc:"In the site's currency, of what has a price"`
	GPUHours  float64   `json:"gpu_hours" doc:"Of all, up to now"`
	Unpriced  float64   `json:"unpriced_gpu_hours,omitempty" doc:"GPU-hours whose price nobody has said: spent is without them"`
	Share     float64   `json:"share" doc:"Part of the budget that is spent; from 1 on nothing new is placed"`
	Since     time.Time `json:"since,omitzero" doc:"Beginning of the period; absent: of all time"`
	RenewedAt time.Time `json:"renewed_at,omitzero" doc:"Absent: never"`
	Held      string    `json:"held,omitempty" doc:"Why nothing new is placed; absent: there is money left"`
}
