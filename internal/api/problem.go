package api

import (
	"errors"
	"net/http"

	forge "github.com/forge-ml/forge-ml"
)

// ProblemType is the media type of RFC 9457.
const ProblemType = "application/problem+json"

// problemBase prefixes the type of every problem. It is a name, not a page.
const problemBase = "urn:forge-ml:problem:"

// Problem is how an error crosses the wire: RFC 9457 plus what a forge.Error knows.
type Problem struct {
	Type      string     `json:"type" doc:"URN that names the kind" example:"urn:forge-ml:problem:invalid"`
	Title     string     `json:"title" doc:"The kind in words; the same for every problem of the kind"`
	Status    int        `json:"status" doc:"HTTP status code"`
	Detail    string     `json:"detail" doc:"What is wrong, with the value and what is allowed"`
	Kind      forge.Kind `json:"kind" enum:"invalid,unauthorized,forbidden,not_found,conflict,precondition,unavailable,internal"`
	Field     string     `json:"field,omitempty" doc:"The input field at fault, dotted" example:"params.lora.r"`
	Hint      string     `json:"hint,omitempty" doc:"What to do next"`
	RequestID string     `json:"request_id,omitempty" doc:"On internal errors: what to look for in forged's log"`

	Gate *forge.GateReport `json:"gate,omitempty" doc:"Of a promotion that was refused: what its gate found"`

	RetryAfter int `json:"-"` // seconds, in the header Retry-After
}

var titles = map[forge.Kind]string{
	forge.KindInvalid:      "The input is not valid",
	forge.KindUnauthorized: "No valid API key",
	forge.KindForbidden:    "Not allowed",
	forge.KindNotFound:     "Not found",
	forge.KindConflict:     "Conflict",
	forge.KindPrecondition: "Not possible in this state",
	forge.KindUnavailable:  "Unavailable, try again later",
	forge.KindInternal:     "Internal error",
}

// NewProblem makes a problem of a kind.
func NewProblem(k forge.Kind, detail string) *Problem {
	if _, ok := titles[k]; !ok {
		k = forge.KindInternal
	}
	return &Problem{Type: problemBase + string(k), Title: titles[k], Status: StatusOf(k), Detail: detail, Kind: k}
}

// ProblemOf turns an error into what a user may see of it. Whatever is not a forge.Error, or
// is one of KindInternal, loses its text here: that belongs into the log, with the request id.
func ProblemOf(err error, requestID string) *Problem {
	var e *forge.Error
	if !errors.As(err, &e) || StatusOf(e.Kind) == http.StatusInternalServerError {
		p := NewProblem(forge.KindInternal, "forged met an internal error")
		p.RequestID = requestID
		if requestID != "" {
			p.Hint = "look for request " + requestID + " in forged's log"
		}
		return p
	}
	p := NewProblem(e.Kind, string(e.Kind))
	if e.Err != nil {
		p.Detail = e.Err.Error()
	}
	p.Field, p.Hint = e.Field, forge.HintOf(err)
	var g *forge.GateRefusal
	if errors.As(err, &g) {
		p.Gate = &g.Report
	}
	return p
}

// Forge turns a received problem back into the error that it was.
func (p *Problem) Forge() *forge.Error {
	k := p.Kind
	if _, ok := statuses[k]; !ok {
		k = KindOfStatus(p.Status)
	}
	detail := p.Detail
	if detail == "" {
		detail = p.Title
	}
	if detail == "" {
		detail = http.StatusText(p.Status)
	}
	e := &forge.Error{Kind: k, Field: p.Field, Hint: p.Hint, Err: errors.New(detail)}
	if p.Gate != nil {
		e.Err = &forge.GateRefusal{Report: *p.Gate}
	}
	return e
}

// Error makes a problem an error.
func (p *Problem) Error() string { return p.Forge().Error() }

// GetStatus tells huma the status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType tells huma the media type.
func (p *Problem) ContentType(string) string { return ProblemType }
