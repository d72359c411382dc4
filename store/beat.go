package store

import "context"

// Beat says whether the writer still turns: an empty closure goes through it like any other, and
// costs no write to the disk. An error is ctx's when the writer did not come to it in time.
func (db *DB) Beat(ctx context.Context) error {
	j := &job{ctx: ctx, op: "beat", fn: func(*tx) error { return nil }, done: make(chan struct{})}
	if err := db.writer.enqueue(j); err != nil {
		return err
	}
	select { // unlike a write, nothing is lost by not knowing how it went
	case <-j.done:
		return j.err
	case <-ctx.Done():
		return ctx.Err()
	}
}
