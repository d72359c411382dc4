package daemon

import "context"

// gpusLoop takes in what is seen of GPUs, and does what the rules of their health say.
func (d *Daemon) gpusLoop(ctx context.Context) {
	<-ctx.Done()
}
