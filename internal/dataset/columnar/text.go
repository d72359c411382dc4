package columnar

import (
	"math"
	"math/big"
	"strconv"
	"time"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// appendText appends a JSON string; bytes that are no UTF-8 are no text.
func appendText(dst []byte, text []byte, column string) []byte {
	if !utf8.Valid(text) {
		panic(refuse("%s holds text that is not UTF-8", column))
	}
	if len(dst)+len(text) > maxRow {
		panic(longRow())
	}
	dst = append(dst, '"')
	from := 0
	for i, c := range text {
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, text[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(append(dst, text[from:]...), '"')
}

func longRow() *Error { return refuse("the row is longer than %d MiB", maxRow>>20) }

// appendFloat appends a number that is read as a float again; JSON has no NaN and no infinity, and pandas writes NaN where nothing is.
func appendFloat(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	from := len(dst)
	dst = strconv.AppendFloat(dst, f, 'g', -1, 64)
	for _, c := range dst[from:] {
		if c == '.' || c == 'e' {
			return dst
		}
	}
	return append(dst, '.', '0')
}

// half is a float of 16 bits.
func half(bits uint16) float64 {
	sign, exponent, fraction := 1.0, int(bits>>10&31), float64(bits&1023)
	if bits>>15 == 1 {
		sign = -1
	}
	switch exponent {
	case 0:
		return sign * math.Ldexp(fraction, -24)
	case 31:
		if fraction != 0 {
			return math.NaN()
		}
		return math.Inf(int(sign))
	}
	return sign * math.Ldexp(1024+fraction, exponent-25)
}

func appendDate(dst []byte, days int64, column string) []byte {
	return appendTime(dst, days, int64(24*time.Hour), "2006-01-02", column)
}

// appendTime appends the time that is count units after 1970, in text; a fraction stands there as far as it is not 0.
func appendTime(dst []byte, count, unit int64, layout, column string) []byte {
	var t time.Time
	if unit >= int64(time.Second) {
		seconds := unit / int64(time.Second)
		if count > math.MaxInt64/seconds || count < math.MinInt64/seconds {
			panic(refuse("%s holds a time outside of the years 1 to 9999", column))
		}
		t = time.Unix(count*seconds, 0).UTC()
	} else {
		second := int64(time.Second) / unit
		whole, rest := count/second, count%second
		if rest < 0 {
			whole, rest = whole-1, rest+second
		}
		t = time.Unix(whole, rest*unit).UTC()
	}
	if y := t.Year(); y < 1 || y > 9999 {
		panic(refuse("%s holds a time outside of the years 1 to 9999", column))
	}
	dst = append(dst, '"')
	return append(t.AppendFormat(dst, layout), '"')
}

const (
	zonedTime = "2006-01-02T15:04:05.999999999Z"
	localTime = "2006-01-02T15:04:05.999999999"
	clockTime = "15:04:05.999999999"
)

// appendDecimal appends a decimal with all its digits, as text.
func appendDecimal(dst []byte, unscaled *big.Int, scale int) []byte {
	digits := new(big.Int).Abs(unscaled).String()
	for len(digits) <= scale {
		digits = "0" + digits
	}
	dst = append(dst, '"')
	if unscaled.Sign() < 0 {
		dst = append(dst, '-')
	}
	dst = append(dst, digits[:len(digits)-scale]...)
	if scale > 0 {
		dst = append(append(dst, '.'), digits[len(digits)-scale:]...)
	}
	return append(dst, '"')
}

// signed is the number of big-endian two's complement.
func signed(b []byte) *big.Int {
	n := new(big.Int).SetBytes(b)
	if len(b) > 0 && b[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	return n
}
