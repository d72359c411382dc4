// Package forge holds the nouns of forge-ml: what a run, an attempt, a node, a plan is,
// which states they may take and which errors may come back. It does no I/O and imports
// the standard library only, so that every room may import it and none has to translate.
//
// One noun, one file; the same noun has the same file name in every room
// (run.go, store/run.go, internal/api/run.go). The words are those of docs/vocabulary.md.
//
// The way of a run, room by room:
//
//	forgectl ─► internal/api ─► store              submit   run: pending, durable before it is acknowledged
//	                              │
//	                      scheduler.Plan           plan     Snapshot in, Plan out
//	                              │
//	                        store.Apply            place    decision by decision; writes an outbox row
//	                              │
//	          internal/daemon/launch ─► Executor   execute  one shim per attempt and node
//	          internal/daemon/watch  ◄─ Executor   observe  states, exits, metrics, checkpoints
//	                              │
//	                        store.Record…          record   attempt moves forward, metrics, events
//
// Fields that leave the program carry JSON tags: the JSON form of a noun is its wire form.
package forge
