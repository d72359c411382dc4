package dataset

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	forge "github.com/forge-ml/forge-ml"
)

// ModelInfo is what registration needs to know of a base model beside its bytes.
type ModelInfo struct {
	forge.WeightsSeen
	HasTokenizer bool
}

// maxConfig bounds the JSON files that are parsed whole.
const maxConfig = 64 << 20

// HashModel checks and hashes a base model directory as transformers lays it out: config.json,
// weights as safetensors (one file, or an index and all its shards, each complete to the byte),
// tokenizer files. Every file is hashed, also in directories below, except hidden ones (.git,
// .cache). Symbolic links to files are followed, because that is how the Hugging Face cache
// holds a snapshot. Errors are those of Scan.
func HashModel(ctx context.Context, dir string, progress func(done, total int64)) (forge.Manifest, ModelInfo, error) {
	fail := func(err error) (forge.Manifest, ModelInfo, error) { return forge.Manifest{}, ModelInfo{}, err }
	dir, fi, err := statRoot(dir)
	if err != nil {
		return fail(err)
	}
	if !fi.IsDir() {
		return fail(noModelDir(dir))
	}
	info, err := inspect(dir)
	if err != nil {
		return fail(err)
	}
	man, err := hashAll(ctx, dir, progress)
	if err != nil {
		return fail(err)
	}
	return man, info, nil
}

// InspectModel reads only the small files: what can be refused without reading the weights is refused at once.
func InspectModel(dir string) (ModelInfo, error) {
	dir, fi, err := statRoot(dir)
	if err != nil {
		return ModelInfo{}, err
	}
	if !fi.IsDir() {
		return ModelInfo{}, noModelDir(dir)
	}
	return inspect(dir)
}

func noModelDir(dir string) error {
	return forge.Invalidf("path", "%s is not a directory; a base model is one, with config.json and safetensors", dir)
}

// inspect reads the small files before the large ones are hashed, so that a wrong directory is
// refused at once.
func inspect(dir string) (ModelInfo, error) {
	var info ModelInfo
	var config struct {
		Architectures []string        `json:"architectures"`
		AutoMap       json.RawMessage `json:"auto_map"`
		Vocab         any             `json:"vocab_size"` // whatever a config holds there: no weights are refused for it
		Labels        any             `json:"id2label"`
		Outputs       any             `json:"num_labels"`
	}
	var all map[string]json.RawMessage
	path := filepath.Join(dir, "config.json")
	if exists(dir, "adapter_config.json") { // also beside a config.json: transformers would load the adapter's base in its place
		return info, isAdapter(dir)
	}
	if !exists(dir, "config.json") {
		e := forge.Invalidf("path", "%s does not exist: %s is no base model", path, dir)
		return info, e.WithHint("Want a directory as transformers' save_pretrained writes it: config.json, safetensors, tokenizer files")
	}
	if err := readJSON(path, &config); err != nil {
		return info, err
	}
	if len(config.Architectures) > 0 {
		info.Architecture = config.Architectures[0]
	}
	info.Vocab = count(config.Vocab)
	if strings.HasSuffix(info.Architecture, "ForSequenceClassification") {
		labels, _ := config.Labels.(map[string]any)
		if info.Outputs = max(count(config.Outputs), len(labels)); info.Outputs == 0 {
			info.Outputs = 2 // what transformers takes where config.json says nothing
		}
	}
	if err := readJSON(path, &all); err != nil {
		return info, err
	}
	shape := newShaper(all)
	var err error
	if info.Shards, err = checkWeights(dir, shape.see); err != nil {
		return info, err
	}
	info.Shape = shape.shape()
	info.HasTokenizer = exists(dir, "tokenizer.json") || exists(dir, "tokenizer.model") || exists(dir, "spiece.model") ||
		exists(dir, "vocab.json") && exists(dir, "merges.txt") || exists(dir, "vocab.txt")
	info.RemoteCode = says(config.AutoMap)
	info.ChatTemplate = exists(dir, "chat_template.jinja") || exists(dir, "chat_template.json")
	return info, inspectTokenizer(dir, &info)
}

// count is a number of things, 0 where a value is none.
func count(v any) int {
	if n, ok := v.(float64); ok && n > 0 && n < 1<<31 {
		return int(n)
	}
	return 0
}

// inspectTokenizer reads what the tokenizer's own files say.
func inspectTokenizer(dir string, info *ModelInfo) error {
	if exists(dir, "tokenizer_config.json") {
		var tc struct {
			ChatTemplate json.RawMessage `json:"chat_template"`
			AutoMap      json.RawMessage `json:"auto_map"`
		}
		if err := readJSON(filepath.Join(dir, "tokenizer_config.json"), &tc); err != nil {
			return err
		}
		info.ChatTemplate = info.ChatTemplate || says(tc.ChatTemplate)
		info.RemoteCode = info.RemoteCode || says(tc.AutoMap)
	}
	if !exists(dir, "tokenizer.json") {
		return nil
	}
	var tj struct {
		Added []struct {
			Content string `json:"content"`
		} `json:"added_tokens"`
	}
	if err := readJSON(filepath.Join(dir, "tokenizer.json"), &tj); err != nil {
		return err
	}
	marks := map[string]bool{"<|im_start|>": false, "<|im_end|>": false}
	for _, t := range tj.Added {
		if _, is := marks[t.Content]; is {
			marks[t.Content] = true
		}
	}
	info.ChatML = marks["<|im_start|>"] && marks["<|im_end|>"]
	return nil
}

// says tells a value from one that stands for none.
func says(v json.RawMessage) bool {
	s := string(bytes.TrimSpace(v))
	return s != "" && s != "null" && s != `""` && s != "[]" && s != "{}"
}

// isAdapter says whose adapter a directory holds.
func isAdapter(dir string) error {
	var of struct {
		Base string `json:"base_model_name_or_path"`
	}
	e := forge.Invalidf("path", "%s holds an adapter (adapter_config.json) and no base model", dir)
	if err := readJSON(filepath.Join(dir, "adapter_config.json"), &of); err == nil && of.Base != "" {
		e = forge.Invalidf("path", "%s holds an adapter (adapter_config.json) of the base %.200q, and no base model", dir, of.Base)
	}
	return e.WithHint("A base model is the directory that the adapter was trained on; or merge the two: model.merge_and_unload().save_pretrained(DIR)")
}

func exists(dir, name string) bool {
	fi, err := os.Stat(filepath.Join(dir, name))
	return err == nil && !fi.IsDir()
}

// readJSON reads a small JSON object whole.
func readJSON(path string, into any) error {
	f, err := openPath(path)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	switch {
	case err != nil:
		return unreadable(path, err)
	case len(b) > maxConfig:
		return forge.Invalidf("path", "%s is larger than %d MiB", path, maxConfig>>20)
	}
	if err := json.Unmarshal(b, into); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return forge.Invalidf("path", "%s: malformed JSON at byte %d: %w", path, syntax.Offset, err)
		}
		return forge.Invalidf("path", "%s: %w", path, err)
	}
	return nil
}

// openPath opens a regular file by its path; see source.open for O_NONBLOCK.
func openPath(path string) (*openFile, error) {
	fi, err := os.Stat(path)
	if err != nil {
		if to, lerr := os.Readlink(path); lerr == nil && errors.Is(err, fs.ErrNotExist) {
			return nil, forge.Invalidf("path", "%s is a symbolic link to %q, which does not exist", path, to)
		}
		return nil, unreadable(path, err)
	}
	if !fi.Mode().IsRegular() {
		return nil, notRegular(path, fi)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	return newOpenFile(f, path, err, func() (fs.FileInfo, error) { return os.Stat(path) })
}

// modelFiles lists what belongs to the model, relative and sorted, and its size.
func modelFiles(ctx context.Context, dir string) (names []string, total int64, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return unreadable(path, err)
		case ctx.Err() != nil:
			return ctx.Err()
		case path == dir:
			return nil
		case strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		case d.IsDir():
			return nil
		case len(names) == maxFiles:
			return forge.Invalidf("path", "%s holds more than %d files; a base model has a directory of its own", dir, maxFiles)
		}
		f, err := openPath(path)
		if err != nil {
			return err
		}
		defer f.Close()
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		names, total = append(names, rel), total+f.before.Size()
		return nil
	})
	return names, total, err
}

func hashFile(dir, name string, m *meter) (forge.File, error) {
	path := filepath.Join(dir, name)
	f, err := openPath(path)
	if err != nil {
		return forge.File{}, err
	}
	defer f.Close()
	if _, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{m.through(f)}, make([]byte, chunk)); err != nil {
		return forge.File{}, readFailed(path, err)
	}
	if err := f.unchanged(); err != nil {
		return forge.File{}, err
	}
	if m.file != f.before.Size() {
		return forge.File{}, changed(path)
	}
	return f.entry(name, m.sum()), nil
}
