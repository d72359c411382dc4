package rundir

// FailRename makes every rename fail until undo is called: the one step of a durable write that
// a test cannot make fail from outside.
func FailRename(err error) (undo func()) {
	rename = func(string, string) error { return err }
	return func() { rename = osRename }
}

var osRename = rename
