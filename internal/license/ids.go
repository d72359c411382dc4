package license

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/github/go-spdx/v2/spdxexp/spdxlicenses"
)

// The prefixes of what is on no list.
const (
	refPrefix      = "LicenseRef-"
	documentPrefix = "DocumentRef-"
	addPrefix      = "AdditionRef-" // SPDX 3: terms added to a licence
)

// ListVersion is the version of the SPDX list.
func ListVersion() string { return spdxlicenses.LicenseListVersion() }

// lookUp finds one licence by what people write, and says what it was read as where that is another word and not only another case.
func lookUp(w string) (l leafID, note string, ok bool) {
	if r, ok := ref(w); ok {
		return leafID{id: r}, "", true
	}
	if up := strings.ToUpper(w); up == NoAssertion || up == None {
		return leafID{id: up}, "", true
	}
	if ok, id := spdxlicenses.IsDeprecatedLicense(w); ok {
		if now, has := replaced[id]; has {
			return now, fmt.Sprintf("%s is deprecated and read as %s", id, now), true
		}
		return leafID{id: id}, id + " is deprecated", true
	}
	if ok, id := spdxlicenses.IsActiveLicense(w); ok {
		return leafID{id: id}, "", true
	}
	if to, ok := cards[strings.ToLower(w)]; ok {
		l := leafID{id: to.as}
		return l, strings.TrimSuffix(fmt.Sprintf("%s is an id of Hugging Face cards and read as %s: %s", w, l, to.hint), ": "), true
	}
	return leafID{}, "", false
}

// ref is [DocumentRef-X:]LicenseRef-Y with the prefixes as SPDX writes them; what follows is its maker's.
func ref(w string) (string, bool) {
	doc, rest, has := strings.Cut(w, ":")
	if !has {
		return prefixed(w, refPrefix)
	}
	d, ok := prefixed(doc, documentPrefix)
	r, also := prefixed(rest, refPrefix)
	return d + ":" + r, ok && also
}

func prefixed(w, prefix string) (string, bool) {
	if len(w) <= len(prefix) || !strings.EqualFold(w[:len(prefix)], prefix) {
		return "", false
	}
	for _, c := range []byte(w[len(prefix):]) {
		if c != '-' && c != '.' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return "", false
		}
	}
	return prefix + w[len(prefix):], true
}

// badRef says that a word was meant as a reference and is none.
func badRef(w string) bool {
	low := strings.ToLower(w)
	return strings.HasPrefix(low, strings.ToLower(refPrefix)) || strings.HasPrefix(low, strings.ToLower(documentPrefix))
}

// exception finds what may stand after WITH.
func exception(w string) (string, bool) {
	if r, ok := prefixed(w, addPrefix); ok {
		return r, true
	}
	ok, id := spdxlicenses.IsException(w)
	return id, ok
}

// orLater is how the GNU licences say "or later": with a word where others have a +.
func orLater(l leafID) (leafID, bool) {
	if base, ok := strings.CutSuffix(l.id, "-only"); ok {
		return leafID{id: base + "-or-later"}, true
	}
	if strings.HasSuffix(l.id, "-or-later") {
		return l, true
	}
	return l, false
}

// replaced says by what SPDX replaced its deprecated ids. Where the old one left open whether later versions count, it is the narrower.
var replaced = func() map[string]leafID {
	m := map[string]leafID{
		"BSD-2-Clause-FreeBSD": {id: "BSD-2-Clause"}, "BSD-2-Clause-NetBSD": {id: "BSD-2-Clause"}, "bzip2-1.0.5": {id: "bzip2-1.0.6"},
		"Nunit": {id: "zlib-acknowledgement"}, "StandardML-NJ": {id: "SMLNJ"},
		"eCos-2.0":                         {id: "GPL-2.0-or-later", extra: "eCos-exception-2.0"},
		"wxWindows":                        {id: "LGPL-2.0-or-later", extra: "WxWindows-exception-3.1"},
		"GPL-2.0-with-autoconf-exception":  {id: "GPL-2.0-only", extra: "Autoconf-exception-2.0"},
		"GPL-2.0-with-bison-exception":     {id: "GPL-2.0-only", extra: "Bison-exception-2.2"},
		"GPL-2.0-with-classpath-exception": {id: "GPL-2.0-only", extra: "Classpath-exception-2.0"},
		"GPL-2.0-with-font-exception":      {id: "GPL-2.0-only", extra: "Font-exception-2.0"},
		"GPL-2.0-with-GCC-exception":       {id: "GPL-2.0-only", extra: "GCC-exception-2.0"},
		"GPL-3.0-with-autoconf-exception":  {id: "GPL-3.0-only", extra: "Autoconf-exception-3.0"},
		"GPL-3.0-with-GCC-exception":       {id: "GPL-3.0-only", extra: "GCC-exception-3.1"},
	}
	for _, id := range []string{"AGPL-1.0", "AGPL-3.0", "GFDL-1.1", "GFDL-1.2", "GFDL-1.3", "GPL-1.0", "GPL-2.0", "GPL-3.0", "LGPL-2.0", "LGPL-2.1", "LGPL-3.0"} {
		m[id], m[id+"+"] = leafID{id: id + "-only"}, leafID{id: id + "-or-later"}
	}
	return m
}()

// names are all ids that there are, with the lower-case form that they are compared by.
var names = sync.OnceValue(func() []string {
	all := slices.Concat(spdxlicenses.GetLicenses(), slices.Collect(maps.Keys(cards)), []string{NoAssertion, None})
	slices.Sort(all)
	return slices.Compact(all)
})
