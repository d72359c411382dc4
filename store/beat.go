package store

import "context"

// Beat says whether the writer still turns: an empty closure goes through it like any other, and
// costs no write to the disk. A full disk or a damaged file is no reason to say no: the writer turns, and
// a restart would not help.
func (db *DB) Beat(ctx context.Context) error {
	j := &job{ctx: ctx, op: "beat", fn: func(*tx) error { return nil }, done: make(chan struct{})}
	if err := db.writer.enqueue(db.writer.queue, j); err != nil {
		return err
	}
	select { // unlike a write, nothing is lost by not knowing how it went
	case <-j.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
