package estimate

// Remembered counts the runs that an estimator keeps.
func (e *Estimator) Remembered() (n int) {
	for _, g := range e.groups {
		n += len(g.members)
	}
	return n
}
