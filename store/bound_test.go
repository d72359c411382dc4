package store

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// columnsOf lists the columns that a row's model has, and which field each is.
func columnsOf(model any) map[string]reflect.Value {
	v := reflect.ValueOf(model).Elem()
	out := map[string]reflect.Value{}
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag.Get("bun")
		if strings.HasPrefix(tag, "table:") || strings.Contains(tag, "scanonly") {
			continue
		}
		name, _, _ := strings.Cut(tag, ",")
		out[name] = v.Field(i)
	}
	return out
}

// number gives each field another value, so that one bound to the column of another is seen.
func number(fields map[string]reflect.Value) {
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		switch f := fields[name]; f.Kind() {
		case reflect.String:
			f.SetString(name)
		case reflect.Bool:
			f.SetBool(i%2 == 0)
		case reflect.Int, reflect.Int64:
			f.SetInt(int64(1000 + i))
		case reflect.Pointer:
			loss := float64(i)
			f.Set(reflect.ValueOf(&loss))
		}
	}
}

func holdAgainst(t *testing.T, fields map[string]reflect.Value, names []string, values []any) {
	t.Helper()
	if len(names) != len(values) {
		t.Fatalf("%d columns and %d values", len(names), len(values))
	}
	for i, name := range names {
		f, ok := fields[name]
		if !ok {
			t.Errorf("the row has no column %s", name)
			continue
		}
		got := reflect.ValueOf(values[i])
		if got.Kind() == reflect.Pointer && got.Type() != f.Type() {
			if got.Pointer() != f.Addr().Pointer() {
				t.Errorf("column %s goes to another field", name)
			}
			continue
		}
		if !reflect.DeepEqual(got.Convert(f.Type()).Interface(), f.Interface()) {
			t.Errorf("column %s is bound to %v, and its field is %v", name, values[i], f.Interface())
		}
	}
}

func TestWhatIsBoundByHandIsWhatTheRowsModelSays(t *testing.T) {
	var r runRow
	fields := columnsOf(&r)
	number(fields)
	holdAgainst(t, fields, mutableRun, r.mutable())
	plain := strings.ReplaceAll(strings.ReplaceAll(listed, "coalesce(parent, '')", "parent"), "\n\t", " ")
	all := append(strings.Split(plain, ", "), "tenant", "avoid")
	holdAgainst(t, fields, all, append(r.listed(), &r.Tenant, &r.Avoid))
	if len(all) != len(fields) {
		t.Errorf("a run is read with %d of its %d columns", len(all), len(fields))
	}

	var a attemptRow
	fields = columnsOf(&a)
	number(fields)
	holdAgainst(t, fields, columnsOfAttempt, a.columns())
	holdAgainst(t, fields, mutableAttempt, a.mutable())
	if len(columnsOfAttempt) != len(fields) {
		t.Errorf("an attempt is read with %d of its %d columns", len(columnsOfAttempt), len(fields))
	}

	var tenant tenantRow
	fields = columnsOf(&tenant)
	number(fields)
	holdAgainst(t, fields, columnsOfAccount, tenant.columns())
	var o outboxRow
	fields = columnsOf(&o)
	number(fields)
	holdAgainst(t, fields, columnsOfOutbox, o.columns())
	if len(columnsOfOutbox) != len(fields) {
		t.Errorf("a row of the outbox is read with %d of its %d columns", len(columnsOfOutbox), len(fields))
	}
}
