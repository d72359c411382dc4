package forge

import (
	"errors"
	"fmt"
	"strings"
)

// Kind classifies an error for whoever must react to it. The HTTP status (internal/api) and
// the exit code (cmd/forgectl) are each derived from it in exactly one table.
type Kind string

// The closed set of kinds.
const (
	KindInvalid      Kind = "invalid"      // the caller's input is wrong; Field names it
	KindUnauthorized Kind = "unauthorized" // no key, or one that is unknown, expired or revoked
	KindForbidden    Kind = "forbidden"    // a known caller without the right
	KindNotFound     Kind = "not_found"    // absent, or another tenant's: never told apart
	KindConflict     Kind = "conflict"     // the thing exists already, or changed meanwhile
	KindPrecondition Kind = "precondition" // the thing is not in a state that allows this
	KindUnavailable  Kind = "unavailable"  // try again later; nothing was done
	KindInternal     Kind = "internal"     // our fault; the text stays in the log
)

// Kinds lists every kind, in the order of the table in docs.
var Kinds = []Kind{KindInvalid, KindUnauthorized, KindForbidden, KindNotFound, KindConflict, KindPrecondition, KindUnavailable, KindInternal}

// Error is the one error type that crosses rooms.
type Error struct {
	Kind  Kind
	Op    string // what was being done: "run.submit"
	Field string // the input field at fault, dotted: "params.lora.r"; empty when it is not about one
	Err   error  // what is wrong, naming the value and what is allowed
	Hint  string // what to do next, as a command where there is one
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Field != "" {
		b.WriteString(e.Field)
		b.WriteString(": ")
	}
	if e.Err != nil {
		b.WriteString(e.Err.Error())
	} else {
		b.WriteString(string(e.Kind))
	}
	return b.String()
}

// Unwrap gives the cause to errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error of a kind.
func Errorf(kind Kind, op, format string, args ...any) *Error {
	return &Error{Kind: kind, Op: op, Err: fmt.Errorf(format, args...)}
}

// Invalidf makes a KindInvalid error about one input field.
func Invalidf(field, format string, args ...any) *Error {
	return &Error{Kind: KindInvalid, Field: field, Err: fmt.Errorf(format, args...)}
}

// WithHint returns the error with what to do next.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

// WithOp returns the error with the operation that met it.
func (e *Error) WithOp(op string) *Error {
	c := *e
	c.Op = op
	return &c
}

// KindOf classifies any error; what is not an Error is internal.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return KindInternal
}

// HintOf returns the hint of the outermost Error that has one.
func HintOf(err error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}
