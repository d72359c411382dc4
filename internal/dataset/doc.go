// Package dataset reads training data and base models where they lie and says what they are:
// a digest of every file, and either a shape that a recipe can use or the first thing wrong.
//
// # One pass
//
// Scan reads each byte once. The bytes go to SHA-256 and to the row checks side by side, so the
// digest is of exactly what was checked, and memory is bounded by one line (MaxLine), never by
// the file. The file is looked at before and after: a file that grows or is replaced meanwhile
// is a conflict, not a dataset.
//
//	path ─► source   which files, none outside the directory, no pipe or device opened
//	     ─► lines    read, digest, split, progress, cancellation
//	     ─► scanner  JSON by RFC 8259, strict where trainers are: UTF-8, no duplicate keys
//	     ─► table    columns of the row ─► one kind for the whole dataset
//
// # Why an own JSON scanner
//
// encoding/json needs a decode into maps to see duplicate keys not at all, and its token reader
// allocates for every key; at the size of real datasets that is the difference between seconds
// and minutes of a core. The scanner here is the grammar and nothing else; a fuzz test holds its
// verdict equal to encoding/json's.
//
// # What is refused here and what is not
//
// Refused is what would stop or silently bend a training run hours later: bytes that Python
// cannot decode, rows that do not parse, rows of another kind than the first. Blank lines are
// skipped, as trainers do. Errors name the file, the line and what is wrong, and never quote
// content: only column names and roles leave the file.
//
// What is well-formed and still not what was meant (chosen = rejected, an answer of white space,
// roles that do not alternate) is counted with its first few places and registered: a recipe of
// forge's own refuses some of it at submit, other programs may want it. Duplicated rows and
// personal data are not looked at here.
//
// Everything is plain Go without cgo, because forgectl uses it for a look before the upload.
package dataset
