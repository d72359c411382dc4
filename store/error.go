package store

import (
	"context"
	"database/sql"
	"errors"

	sqlite3 "github.com/mattn/go-sqlite3"

	forge "github.com/forge-ml/forge-ml"
)

// classify gives any error that leaves the package its Kind. What SQLite says is judged by its
// codes: its texts change between releases and would leak table names to users.
func classify(op string, err error) error {
	if err == nil {
		return nil
	}
	var fe *forge.Error
	if errors.As(err, &fe) {
		if fe.Op == "" {
			return fe.WithOp(op)
		}
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return &forge.Error{Kind: forge.KindUnavailable, Op: op, Err: err}
	}
	var se sqlite3.Error
	if !errors.As(err, &se) {
		if errors.Is(err, sql.ErrNoRows) {
			return &forge.Error{Kind: forge.KindNotFound, Op: op, Err: errors.New("not found")}
		}
		return &forge.Error{Kind: forge.KindInternal, Op: op, Err: err}
	}
	switch se.Code {
	case sqlite3.ErrConstraint:
		return &forge.Error{Kind: constraintKind(se), Op: op, Err: err}
	case sqlite3.ErrFull:
		return unavailable(op, "no space left for the database", err).
			WithHint("free space on the file system of the state directory")
	case sqlite3.ErrIoErr, sqlite3.ErrCantOpen, sqlite3.ErrReadonly, sqlite3.ErrPerm:
		return unavailable(op, "the database cannot be written or read", err).
			WithHint("check the file system and the permissions of the state directory")
	case sqlite3.ErrBusy, sqlite3.ErrLocked, sqlite3.ErrProtocol, sqlite3.ErrInterrupt, sqlite3.ErrNomem:
		return unavailable(op, "the database is busy", err)
	}
	return &forge.Error{Kind: forge.KindInternal, Op: op, Err: err}
}

func constraintKind(se sqlite3.Error) forge.Kind {
	switch se.ExtendedCode {
	case sqlite3.ErrConstraintUnique, sqlite3.ErrConstraintPrimaryKey, sqlite3.ErrConstraintRowID:
		return forge.KindConflict
	case sqlite3.ErrConstraintTrigger, sqlite3.ErrConstraintForeignKey:
		return forge.KindPrecondition
	}
	return forge.KindInternal // CHECK, NOT NULL, types: values that our own code got wrong
}

// cause keeps the driver's error for the log and shows people a sentence instead.
type cause struct {
	text string
	err  error
}

func (c *cause) Error() string { return c.text }
func (c *cause) Unwrap() error { return c.err }

func unavailable(op, text string, err error) *forge.Error {
	return &forge.Error{Kind: forge.KindUnavailable, Op: op, Err: &cause{text, err}}
}

// breaksGroup says that SQLite may have undone more than the statement that failed, so that
// nothing of the shared transaction can be trusted any more.
func breaksGroup(err error) bool {
	var se sqlite3.Error
	if !errors.As(err, &se) {
		return false
	}
	switch se.Code {
	case sqlite3.ErrFull, sqlite3.ErrIoErr, sqlite3.ErrNomem, sqlite3.ErrBusy, sqlite3.ErrInterrupt,
		sqlite3.ErrCorrupt, sqlite3.ErrReadonly, sqlite3.ErrCantOpen:
		return true
	}
	return false
}

// violates says that a constraint of the schema refused the statement.
func violates(err error) bool {
	var se sqlite3.Error
	return errors.As(err, &se) && se.Code == sqlite3.ErrConstraint
}

func notFound(op, format string, args ...any) *forge.Error {
	return forge.Errorf(forge.KindNotFound, op, format, args...)
}

func absent(err error) bool { return errors.Is(err, sql.ErrNoRows) }
