// Package artefact is what is done to the bytes of artefacts where they lie: a copy that is whole or not there, a second look at what was registered, and removal.
//
//	copy.go    ROOT/TENANT/DIGEST: copied file by file, hashed on the way, renamed into place when all is on the disk
//	check.go   bytes held against a manifest, and what lies beside them that would be loaded
//	away.go    out of the way first, then gone: a crash leaves nothing that looks whole
//
// Nothing here knows runs, versions or tenants but by the names of directories.
package artefact
