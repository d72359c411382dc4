package dataset

// Malformed is the scanner's verdict on one line as JSON of any kind. It has none (known is
// false) where it stops at JSON that is refused all the same: too deep, a key twice, half a
// surrogate pair.
func Malformed(line []byte) (malformed, known bool, why string) {
	var s scanner
	s.reset(line)
	s.space()
	p := s.value(nil)
	if p == nil {
		if s.space(); s.i < len(line) {
			p = s.bad("more follows")
		}
	}
	if p == nil {
		return false, true, ""
	}
	return p.malformed, p.malformed, p.why
}

// HoldMarks changes how many fingerprints are held in memory, until the function that it returns is called.
func HoldMarks(n int) func() {
	before := maxMarks
	maxMarks = n
	return func() { maxMarks = before }
}

// Inflate changes what any compressed file may become, until the function that it returns is called.
func Inflate(n int64) func() {
	before := freely
	freely = n
	return func() { freely = before }
}

// CutAt changes the size of blocks, until the function that it returns is called.
func CutAt(n int) func() {
	before := blockSize
	blockSize = n
	return func() { blockSize = before }
}
