// Command testreport runs everything that `make test` promises, step by step, and counts.
//
//	go run ./contrib/testreport lint|fast|full|long
//
// Each step prints its name and time, and what it wrote only when it failed; the first failed
// step ends the run. The last line is the sum over all runners, "N passed, N failed", read
// from what they reported (go test -json, pytest's JUnit file) and never assumed. Three things
// that runners call success are failures here, because each has hidden a broken suite before:
// a runner that ran no test, a skipped test, and a stream that stops before its packages end. Under
// -short, and only there, a test may leave itself out for its length: it is counted apart.
//
//	mode   what
//	lint   gofmt, go vet, staticcheck, shellcheck
//	fast   gofmt, go vet, Go tests with -short and without -race, forgectl without cgo alone, quick Python tests
//	full   lint, build, Go tests with -race, forgectl without cgo, Python tests, end-to-end tests
//	long   full, what is marked long (build tag long, pytest mark long), and training with the lowest packages supported
//
// The output of every step stays in .cache/test/ until the next run.
package main
