// Package recipes holds what can be trained and with which knobs: YAML files with defaults, a
// typed parameter schema, default resources and the entry point, and the Python package that
// the entry points live in.
//
//	lora_sft.yaml ─► Builtin ─► Library.With(site directory) ─► Library.Get(name) ─► Recipe
//	run file params, --set KEY=VALUE ──────────────────────────────────────────────► Recipe.Resolve
//
// A recipe file is decoded strictly: an unknown key, a key given twice, an anchor (they can grow
// without bound), a second document, a default outside its own range are refused with file, line
// and field. What a daemon accepted at start cannot surprise a submit later.
//
// Resolve merges defaults ← run file ← sets and keeps the origin of each value, so that a person
// can see why a value is what it is. Nothing is ever ignored: a parameter that the recipe does not
// have is refused with the nearest names and the whole list, because a misspelt learning rate that
// silently stays at its default costs a night of GPUs.
//
// Values are canonical (int64, float64, bool, string, []any of those) and mean the same after a
// trip through JSON; integers are held within ±2^53, what every JSON reader can hold.
// CanonicalDigest is therefore the same before and after storage.
//
// The Python package travels inside the binary (python.go): PythonDigest names the code that ran
// in a model's lineage, ExtractPython puts it on disk under that digest.
package recipes
