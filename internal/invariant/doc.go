// Package invariant judges the ten invariants of DESIGN §6 over what is really there: the
// tables, the run directories and /proc. Gather reads the facts, Judge is a pure function of
// them; tests plant a violation of each invariant into the facts and expect to hear of it. The
// crash-point test, the fault tests and the torture runs of later issues all end with it.
//
// It reads the tables with statements of its own instead of package store's: a checker that
// shares the code under test shares its errors.
package invariant
