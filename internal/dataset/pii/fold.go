package pii

// gone is what fold makes of characters that are not seen: they stand inside of numbers and addresses to hide them, or by accident.
const gone = 1

// fold reads one character and gives the ASCII byte that it stands for, and its length: full-width forms, all blanks and dashes. Other characters beyond ASCII give 0.
func fold(t []byte, i int) (b byte, size int) {
	b = t[i]
	if b < 0x80 {
		if b == gone {
			b = 0
		}
		return b, 1
	}
	if b == 0xC2 && i+1 < len(t) {
		switch t[i+1] {
		case 0xA0:
			return ' ', 2
		case 0xAD:
			return gone, 2
		}
		return 0, 2
	}
	if i+2 >= len(t) {
		return 0, 1
	}
	c, d := t[i+1], t[i+2]
	switch b {
	case 0xEF:
		switch {
		case c == 0xBC && d >= 0x81 && d <= 0xBF:
			return d - 0x80 + ' ', 3
		case c == 0xBD && d >= 0x80 && d <= 0x9E:
			return d - 0x80 + '`', 3
		case c == 0xBB && d == 0xBF:
			return gone, 3
		}
		if c == 0xBC {
			return 0, 3
		}
	case 0xE2:
		switch {
		case c == 0x80 && (d >= 0x8B && d <= 0x8F || d >= 0xAA && d <= 0xAE), c == 0x81 && d >= 0xA0 && d <= 0xA4:
			return gone, 3
		case c == 0x80 && (d <= 0x8A || d == 0xAF), c == 0x81 && d == 0x9F:
			return ' ', 3
		case c == 0x80 && d >= 0x90 && d <= 0x95, c == 0x88 && d == 0x92:
			return '-', 3
		}
	case 0xE3:
		if c == 0x80 && d == 0x80 {
			return ' ', 3
		}
	}
	return 0, 1
}

// foldBefore is fold for the character that ends at i.
func foldBefore(t []byte, i int) (b byte, size int) {
	if i <= 0 {
		return 0, 0
	}
	if t[i-1] < 0x80 {
		return fold(t, i-1)
	}
	for size = 2; size <= 3 && size <= i; size++ {
		if b, n := fold(t, i-size); n == size {
			return b, size
		}
	}
	return 0, 1
}
