package store

import (
	"encoding/json"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// listText is a tenant's own list as it is stored; empty where it has none and the site's holds.
func listText(list []string) string {
	if list == nil {
		return ""
	}
	b, _ := json.Marshal(list) // strings always encode
	return string(b)
}

// listOf reads it. A column's CHECK sees to it that there is nothing else.
func listOf(text string) (list []string) {
	if text != "" {
		_ = json.Unmarshal([]byte(text), &list)
	}
	return list
}

// listTo changes one list, and notes it. forge.SiteLicenses alone gives the site's back.
func listTo(did []string, name string, v *string, to *[]string) []string {
	if to == nil {
		return did
	}
	list := append([]string{}, *to...)
	if slices.Equal(list, []string{forge.SiteLicenses}) {
		list = nil
	}
	text := listText(list)
	if text == *v {
		return did
	}
	*v = text
	switch {
	case list == nil:
		return append(did, name+" is the site's")
	case len(list) == 0:
		return append(did, name+" unset")
	}
	return append(did, name+" "+strings.Join(list, ", "))
}
