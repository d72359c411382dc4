package store_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
)

func TestABeatComesBackWhileTheWriterTurnsAndNotWhenItHangs(t *testing.T) {
	hang, entered := make(chan struct{}), make(chan struct{})
	first := sync.OnceFunc(func() { close(entered); <-hang })
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "f.db"), store.Options{OnCommit: func([]forge.Delta) { first() }})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	go func() { _ = db.AddEvent(context.Background(), forge.Event{Type: forge.EventNodeChanged, Message: "x"}) }()
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := db.Beat(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the writer hangs and a beat says %v", err)
	}
	close(hang)
	if err := db.Beat(t.Context()); err != nil {
		t.Errorf("it goes on, and a beat says %v", err)
	}
}
