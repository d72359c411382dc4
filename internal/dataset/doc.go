// Package dataset reads training data and base models where they lie and says what they are:
// a digest of every file, and either a shape that a recipe can use or all that is wrong.
//
// # One pass
//
// Scan reads each byte once. The bytes go to SHA-256 and to the row checks side by side, so the
// digest is of exactly what was checked, and memory is bounded by one line (MaxLine), never by
// the file. The file is looked at before and after: a file that grows or is replaced meanwhile
// is a conflict, not a dataset.
//
//	paths ─► source   which files, none outside the directory, no pipe or device opened
//	      ─► file     open, digest, decompress; cut lines or rows (rowReader) into blocks
//	      ─► worker   JSON by RFC 8259, strict where trainers are: UTF-8, no duplicate keys
//	                  layout, preset: the row of the files ─► the row of the kind
//	                  its digest, length, sketch; personal data in all its texts (pii)
//	      ─► summary  block after block, in the order of the files
//
// What a block holds depends on nothing but the file, so neither does the result on the number of
// workers (docs/adr/0026). Read gives the rows of a version again, Rewrite changes texts in one.
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
// cannot decode, rows that do not parse, rows of another kind than the first. All of it is listed (Problems). Blank lines are
// skipped, as trainers do. Errors name the file, the line and what is wrong, and never quote
// content: only column names and roles leave the file.
//
// What is well-formed and still not what was meant (chosen = rejected, an answer of white space,
// roles that do not alternate) is counted with its first few places and registered: a recipe of
// forge's own refuses some of it at submit, other programs may want it.
//
// Everything is plain Go without cgo, because forgectl uses it for a look before the upload.
package dataset
