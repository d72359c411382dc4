package dataset

import (
	"context"
	"sync"

	"github.com/forge-ml/forge-ml/internal/dataset/pii"
)

// job is one block on its way: read, looked at by one worker, summed up in order.
type job struct {
	b    *block
	f    found
	done chan struct{}
}

// pass takes blocks through workers to sum, which sees them in the order in which they were read.
type pass struct {
	plan    *plan
	o       Options
	workers []*worker
	sum     *summary
}

func newPass(p *plan, o Options) *pass {
	x := &pass{plan: p, o: o, sum: newSummary(o)}
	for range max(1, o.Threads) {
		w := newWorker(p)
		if o.PII != nil {
			w.pii = pii.New(*o.PII)
		}
		if o.Near > 0 {
			w.near = newSketcher()
		}
		x.workers = append(x.workers, w)
	}
	return x
}

// run reads with feed. With one thread all happens in one goroutine, which takes one CPU and no more.
func (x *pass) run(ctx context.Context, feed func(context.Context, emit) error) error {
	if len(x.workers) == 1 {
		j := &job{}
		return feed(ctx, func(b *block) error {
			j.b = b
			x.workers[0].look(j)
			return x.merge(x.workers[0], j)
		})
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	n := len(x.workers)
	todo, order := make(chan *job, n), make(chan *job, 3*n)
	pool := sync.Pool{New: func() any { return &job{} }}
	var failed error
	var all sync.WaitGroup
	all.Go(func() {
		defer close(order)
		defer close(todo)
		failed = feed(ctx, func(b *block) error {
			j := pool.Get().(*job)
			j.b, j.done = b, make(chan struct{})
			for _, to := range []chan *job{order, todo} {
				select {
				case to <- j:
				case <-ctx.Done():
					if to == todo { // it is in order: nobody may wait for it
						close(j.done)
					}
					return context.Cause(ctx)
				}
			}
			return nil
		})
	})
	for _, w := range x.workers {
		all.Go(func() {
			for j := range todo {
				w.look(j)
				close(j.done)
			}
		})
	}
	again := newWorker(x.plan)
	again.pii, again.near = x.workers[0].pii, x.workers[0].near
	if x.o.PII != nil {
		again.pii = pii.New(*x.o.PII)
	}
	if x.o.Near > 0 {
		again.near = newSketcher()
	}
	var err error
	for j := range order {
		<-j.done
		if err == nil && ctx.Err() == nil {
			if err = x.merge(again, j); err != nil {
				cancel(err)
			}
		}
		pool.Put(j)
	}
	all.Wait()
	if err != nil {
		return err
	}
	return failed
}

// look lets the worker see the block as if it was the first one.
func (w *worker) look(j *job) {
	if j.b.end == nil {
		w.block(j.b, &j.f, signature{}, place{})
	}
}

// merge sums up a block, and looks at it again where its rows are not like those before it.
func (x *pass) merge(w *worker, j *job) error {
	first := x.sum.first
	if j.b.end == nil && first.sig.has != 0 && j.f.sig.has != 0 && j.f.sig != first.sig || j.f.mixed && first.sig.has != 0 {
		w.block(j.b, &j.f, first.sig, first.at)
	}
	err := x.sum.add(j.b, &j.f)
	j.b.release()
	return err
}
