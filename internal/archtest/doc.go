// Package archtest holds no code, only tests: the rules of this repository that a compiler
// does not know. Each rule is a function over values (packages, files, tables) that returns
// what it found wrong, called once on the repository as it is and once on a planted violation,
// so that a rule that has gone blind fails too.
//
//	arrows_test.go     who may import whom; equal to the table in docs/journey.md
//	homes_test.go      libraries with one home; what forgectl and the pure rooms may not touch
//	files_test.go      names without a subject, files too long, unfinished business
//	tests_test.go      tests that skip, or sleep on the real clock
//	states_test.go     docs/states.md against the state tables and end reasons
//	vocabulary_test.go docs/vocabulary.md has every word that users meet
//	deps_test.go       docs/dependencies.md against go.mod and the Python requirements
//	links_test.go      links in the docs lead somewhere; make targets they name exist
//	build_test.go      the Makefile describes itself; CI runs make test and nothing more
package archtest
