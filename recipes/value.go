package recipes

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxExact is the largest integer that every JSON reader holds exactly.
const maxExact = 1 << 53

// maxText bounds a string value; parameters are knobs, not documents.
const maxText = 4096

// maxItems bounds a list value.
const maxItems = 1024

// check turns a value that came from YAML or JSON into its canonical form, or says what is
// wrong and what is allowed. YAML gives uint64 and int64, JSON gives float64 or json.Number.
func (p Param) check(v any) (any, error) {
	if v == nil {
		return nil, fmt.Errorf("has no value; %s (leave it out for the default %s)", p.allowed(), show(p.Default))
	}
	switch p.Type {
	case TypeInt:
		n, ok := toInt(v)
		if !ok {
			return nil, fmt.Errorf("%s is %s; %s", show(v), kindOf(v), p.allowed())
		}
		if n < -maxExact || n > maxExact || p.outside(float64(n)) {
			return nil, fmt.Errorf("%d is out of range; %s", n, p.allowed())
		}
		return n, nil
	case TypeFloat:
		f, ok := toFloat(v)
		if !ok {
			return nil, fmt.Errorf("%s is %s; %s", show(v), kindOf(v), p.allowed())
		}
		if math.IsNaN(f) || math.IsInf(f, 0) || p.outside(f) {
			return nil, fmt.Errorf("%s is out of range; %s", show(f), p.allowed())
		}
		return f + 0, nil // +0: minus zero is zero
	case TypeBool:
		if b, ok := v.(bool); ok {
			return b, nil
		}
	case TypeString, TypeEnum:
		if s, ok := v.(string); ok {
			return p.checkText(s)
		}
	case TypeList:
		if items, ok := v.([]any); ok {
			return p.checkList(items)
		}
	}
	return nil, fmt.Errorf("%s is %s; %s", show(v), kindOf(v), p.allowed())
}

// parse reads the text after KEY= by the parameter's type.
func (p Param) parse(s string) (any, error) {
	bad := fmt.Errorf("%s is not understood; %s", show(s), p.allowed())
	switch p.Type {
	case TypeInt:
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return nil, bad
		}
		return p.check(n)
	case TypeFloat:
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return nil, bad
		}
		return p.check(f)
	case TypeBool:
		if s != "true" && s != "false" {
			return nil, bad
		}
		return s == "true", nil
	case TypeList:
		if !strings.HasPrefix(s, "[") {
			items := []any{}
			if s != "" {
				for item := range strings.SplitSeq(s, ",") {
					items = append(items, strings.TrimSpace(item))
				}
			}
			return p.check(items)
		}
		d := json.NewDecoder(strings.NewReader(s))
		d.UseNumber()
		var items []any
		if err := d.Decode(&items); err != nil || d.More() {
			return nil, bad
		}
		return p.check(items)
	}
	return p.check(s)
}

func (p Param) checkText(s string) (any, error) {
	switch {
	case !utf8.ValidString(s) || strings.ContainsRune(s, 0):
		return nil, fmt.Errorf("%s holds bytes that are not text; %s", show(s), p.allowed())
	case len(s) > maxText:
		return nil, fmt.Errorf("has %d bytes; at most %d are allowed", len(s), maxText)
	case p.Type == TypeEnum && !slices.Contains(p.Enum, s):
		return nil, fmt.Errorf("%s is not allowed; %s", show(s), p.allowed())
	}
	return s, nil
}

func (p Param) checkList(items []any) (any, error) {
	if len(items) > maxItems {
		return nil, fmt.Errorf("has %d items; at most %d are allowed", len(items), maxItems)
	}
	out := make([]any, 0, len(items))
	for i, item := range items {
		if n, ok := toInt(item); ok && n >= -maxExact && n <= maxExact {
			out = append(out, n)
			continue
		}
		if f, ok := toFloat(item); ok && !math.IsNaN(f) && !math.IsInf(f, 0) {
			out = append(out, f)
			continue
		}
		switch v := item.(type) {
		case bool:
			out = append(out, v)
		case string:
			if _, err := (Param{Type: TypeString}).checkText(v); err != nil {
				return nil, fmt.Errorf("item %d: %w", i+1, err)
			}
			out = append(out, v)
		default:
			return nil, fmt.Errorf("item %d is %s; %s", i+1, kindOf(item), p.allowed())
		}
	}
	return out, nil
}

func (p Param) outside(f float64) bool {
	return p.Min != nil && f < *p.Min || p.Max != nil && f > *p.Max
}

// allowed says in words what the parameter takes.
func (p Param) allowed() string {
	var want string
	switch p.Type {
	case TypeInt:
		want = "want a whole number"
	case TypeFloat:
		want = "want a number"
	case TypeBool:
		return "want true or false"
	case TypeString:
		return "want text"
	case TypeEnum:
		return "want one of " + strings.Join(p.Enum, ", ")
	case TypeList:
		return `want a list of text or numbers (a,b,c or ["a","b"])`
	}
	switch {
	case p.Min != nil && p.Max != nil:
		want += fmt.Sprintf(" from %s to %s", show(*p.Min), show(*p.Max))
	case p.Min != nil:
		want += " of at least " + show(*p.Min)
	case p.Max != nil:
		want += " of at most " + show(*p.Max)
	}
	if p.Unit != "" {
		want += " (" + p.Unit + ")"
	}
	return want
}

func toInt(v any) (int64, bool) {
	switch n := v.(type) {
	case int:
		return int64(n), true
	case int64:
		return n, true
	case uint64:
		return int64(min(n, math.MaxInt64)), true // out of any range, and said so there
	case float64:
		if n == math.Trunc(n) && math.Abs(n) <= maxExact {
			return int64(n), true
		}
	case json.Number:
		if i, err := n.Int64(); err == nil {
			return i, true
		}
		if f, err := n.Float64(); err == nil {
			return toInt(f)
		}
	}
	return 0, false
}

func toFloat(v any) (float64, bool) {
	switch n := v.(type) {
	case float64:
		return n, true
	case int:
		return float64(n), true
	case int64:
		return float64(n), true
	case uint64:
		return float64(n), true
	case json.Number:
		f, err := n.Float64()
		return f, err == nil
	}
	return 0, false
}

// show prints a value as a person would type it, bounded.
func show(v any) string {
	switch x := v.(type) {
	case nil:
		return "null"
	case float64:
		if x == math.Trunc(x) && math.Abs(x) <= maxExact { // 1048576, not 1.048576e+06
			return strconv.FormatFloat(x, 'f', -1, 64)
		}
		return strconv.FormatFloat(x, 'g', -1, 64)
	case string:
		return fmt.Sprintf("%.80q", x)
	case []any, map[string]any:
		b, err := json.Marshal(x)
		if err != nil || len(b) > 80 {
			return kindOf(v)
		}
		return string(b)
	}
	return fmt.Sprintf("%v", v)
}

func kindOf(v any) string {
	switch x := v.(type) {
	case nil:
		return "null"
	case bool:
		return "a bool"
	case string:
		return "text"
	case []any:
		return "a list"
	case map[string]any, map[any]any:
		return "a map"
	case float64:
		if x != math.Trunc(x) {
			return "not whole"
		}
	}
	return "a number"
}
