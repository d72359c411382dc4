// Package workdir takes a snapshot of a user's working directory and puts it back where a run starts.
//
//	forgectl ─ Take ─► tar.gz ─► POST /v1/snapshots ─ Inspect ─► forged keeps it by digest
//	                                                                 │ at launch, into the run directory
//	                              attempts/N/work/ ◄─ Unpack ─ shim ─┘
//
// Which files: those that git tracks, with --include-untracked those that it does not ignore as well; without a repository
// all. What .forgeignore names (gitignore's syntax, any directory may have one) stays out, and .git always does. git itself
// reads both: no other reading of its rules agrees with it in every corner.
//
// Equal trees are equal bytes: entries are sorted, times and owners are left out, modes are 0644 or 0755. What is unpacked is
// confined (os.Root), bounded in bytes and files, and holds regular files and links that stay inside: no devices, no setuid.
package workdir
