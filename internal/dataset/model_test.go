package dataset_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset"
)

// weights is a safetensors file with the tensors of the names, each of 2×3 BF16.
func weights(names ...string) string {
	header := map[string]any{"__metadata__": map[string]string{"format": "pt"}}
	for i, n := range names {
		header[n] = map[string]any{"dtype": "BF16", "shape": []int{2, 3}, "data_offsets": []int{12 * i, 12*i + 12}}
	}
	return safetensors(header, 12*len(names))
}

func safetensors(header any, data int) string {
	h, err := json.Marshal(header)
	if err != nil {
		panic(err)
	}
	return string(binary.LittleEndian.AppendUint64(nil, uint64(len(h)))) + string(h) + strings.Repeat("w", data)
}

const shardIndex = `{"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00001-of-00002.safetensors", "c": "model-00002-of-00002.safetensors"}}`

// model writes a directory of files, from pairs of name and content.
func model(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		write(t, filepath.Join(dir, name), content)
	}
	return dir
}

func single() map[string]string {
	return map[string]string{
		"config.json":           `{"architectures": ["LlamaForCausalLM"], "hidden_size": 64}`,
		"model.safetensors":     weights("a", "b"),
		"tokenizer.json":        `{}`,
		"tokenizer_config.json": `{"chat_template": "{{ messages }}"}`,
	}
}

func sharded() map[string]string {
	m := single()
	delete(m, "model.safetensors")
	m["model.safetensors.index.json"] = shardIndex
	m["model-00001-of-00002.safetensors"] = weights("a", "b")
	m["model-00002-of-00002.safetensors"] = weights("c")
	return m
}

func TestHashModel(t *testing.T) {
	t.Run("one weight file: every file hashed, the facts of its config", func(t *testing.T) {
		files := single()
		files["original/params.json"] = `{"dim": 64}`
		files[".git/HEAD"] = "ref"
		files[".gitattributes"] = "lfs"
		dir := model(t, files)
		var done, total int64
		man, info, err := dataset.HashModel(t.Context(), dir, func(d, n int64) { done, total = d, n })
		if err != nil {
			t.Fatal(err)
		}
		if want := (dataset.ModelInfo{WeightsSeen: forge.WeightsSeen{Architecture: "LlamaForCausalLM", ChatTemplate: true, Shards: 1}, HasTokenizer: true}); info != want {
			t.Errorf("got %+v, want %+v", info, want)
		}
		var names []string
		for _, f := range man.Files {
			names = append(names, f.Path)
			if f.SHA256 != digest(files[f.Path]) || f.Size != int64(len(files[f.Path])) || f.Inode == 0 || f.ModTime.IsZero() {
				t.Errorf("%+v", f)
			}
		}
		if want := []string{"config.json", "model.safetensors", "original/params.json", "tokenizer.json", "tokenizer_config.json"}; !slices.Equal(names, want) || man.Root != dir {
			t.Errorf("root %s, files %q, want %q", man.Root, names, want)
		}
		if done != man.Bytes() || total != man.Bytes() {
			t.Errorf("progress ended at %d of %d, want %d", done, total, man.Bytes())
		}
	})

	t.Run("shards by an index", func(t *testing.T) {
		man, info, err := dataset.HashModel(t.Context(), model(t, sharded()), nil)
		if err != nil || info.Shards != 2 || len(man.Files) != 6 {
			t.Errorf("%v, %+v, %d files", err, info, len(man.Files))
		}
	})

	t.Run("tokenizer and chat template are told by any of their files", func(t *testing.T) {
		for name, c := range map[string]struct {
			file, content string
			tok, chat     bool
		}{
			"neither":           {"notes.txt", "", false, false},
			"sentencepiece":     {"tokenizer.model", "x", true, false},
			"a template file":   {"chat_template.jinja", "x", false, true},
			"a null template":   {"tokenizer_config.json", `{"chat_template": null}`, false, false},
			"a template by key": {"tokenizer_config.json", `{"chat_template": [{"name": "default"}]}`, false, true},
		} {
			_, info, err := dataset.HashModel(t.Context(), model(t, map[string]string{"config.json": `{}`, "model.safetensors": weights("a"), c.file: c.content}), nil)
			if err != nil || info.HasTokenizer != c.tok || info.ChatTemplate != c.chat || info.Architecture != "" {
				t.Errorf("%s: %v, %+v", name, err, info)
			}
		}
	})

	t.Run("code of its own and the marks of ChatML are seen in any of their files", func(t *testing.T) {
		marks := `{"added_tokens": [{"id": 1, "content": "<|im_start|>"}, {"id": 2, "content": "<|im_end|>"}]}`
		for name, c := range map[string]struct {
			put          map[string]string
			code, chatML bool
		}{
			"neither":               {nil, false, false},
			"code of the model":     {map[string]string{"config.json": `{"auto_map": {"AutoModelForCausalLM": "modeling_x.X"}}`}, true, false},
			"code of the tokenizer": {map[string]string{"tokenizer_config.json": `{"auto_map": {"AutoTokenizer": ["x.X", null]}}`}, true, false},
			"an empty map":          {map[string]string{"config.json": `{"auto_map": {}}`}, false, false},
			"the marks":             {map[string]string{"tokenizer.json": marks}, false, true},
			"one mark":              {map[string]string{"tokenizer.json": strings.Replace(marks, "im_end", "im_stop", 1)}, false, false},
		} {
			files := single()
			maps.Copy(files, c.put)
			info, err := dataset.InspectModel(model(t, files))
			if err != nil || info.RemoteCode != c.code || info.ChatML != c.chatML {
				t.Errorf("%s: %v, %+v", name, err, info)
			}
		}
	})

	t.Run("a snapshot of the Hugging Face cache is links to files elsewhere, and they are followed", func(t *testing.T) {
		blobs, dir := t.TempDir(), t.TempDir()
		for name, content := range single() {
			if err := os.Symlink(write(t, filepath.Join(blobs, "blob-"+name), content), filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		man, _, err := dataset.HashModel(t.Context(), dir, nil)
		if err != nil || len(man.Files) != 4 || man.Files[1].SHA256 != digest(single()["model.safetensors"]) {
			t.Errorf("%v, %+v", err, man)
		}
		if err := os.Remove(filepath.Join(blobs, "blob-model.safetensors")); err != nil {
			t.Fatal(err)
		}
		_, _, err = dataset.HashModel(t.Context(), dir, nil)
		refused(t, err, forge.KindInvalid, "model.safetensors is a symbolic link", "does not exist")
	})
}

func TestHashModelRefuses(t *testing.T) {
	type files = map[string]string
	cases := []struct {
		name string
		base files
		put  files // replaces; "-" removes
		says []string
	}{
		{"no config", single(), files{"config.json": "-"}, []string{"config.json does not exist", "is no base model", "hint:save_pretrained"}},
		{"an adapter", files{"adapter_config.json": "{}"}, nil, []string{"holds an adapter", "no base model", "hint:adapter"}},
		{"an adapter beside a model, whose base transformers would load instead", single(), files{"adapter_config.json": `{"base_model_name_or_path": "meta/llama"}`},
			[]string{"holds an adapter", `of the base "meta/llama"`, "hint:merge_and_unload"}},
		{"a config that is no JSON", single(), files{"config.json": `{"architectures": [}`}, []string{"config.json: malformed JSON at byte 20"}},
		{"a config that is no object", single(), files{"config.json": `[]`}, []string{"config.json"}},
		{"a broken tokenizer config", single(), files{"tokenizer_config.json": `{`}, []string{"tokenizer_config.json: malformed JSON"}},
		{"no weights", single(), files{"model.safetensors": "-"}, []string{"holds no weights", "model.safetensors.index.json"}},
		{"pickled weights only", single(), files{"model.safetensors": "-", "pytorch_model.bin": "x"}, []string{"pytorch_model.bin, a pickle", "hint:safe_serialization"}},
		{"an empty weight file", single(), files{"model.safetensors": ""}, []string{"model.safetensors: is 0 bytes long and no safetensors file"}},
		{"a Git LFS pointer", single(), files{"model.safetensors": "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"}, []string{"is a Git LFS pointer", "hint:git lfs pull"}},
		{"weights of another format", single(), files{"model.safetensors": "PK\x03\x04" + strings.Repeat("z", 100)}, []string{"is no safetensors file"}},
		{"weights cut in the data", single(), files{"model.safetensors": cut(weights("a", "b"), 5)}, []string{"model.safetensors: is truncated: 5 bytes are missing"}},
		{"weights cut in the header", single(), files{"model.safetensors": weights("a", "b")[:40]}, []string{"is truncated: 40 bytes long"}},
		{"weights with something behind", single(), files{"model.safetensors": weights("a") + "xyz"}, []string{"is 3 bytes longer than its header says"}},
		{"a header that is no JSON", single(), files{"model.safetensors": "\x04\x00\x00\x00\x00\x00\x00\x00{]}}"}, []string{"header is malformed"}},
		{"a header with a gap", single(), files{"model.safetensors": safetensors(map[string]any{"a": tensor(0, 12), "b": tensor(24, 36)}, 36)}, []string{`tensor "b" with a gap`}},
		{"a header with an overlap", single(), files{"model.safetensors": safetensors(map[string]any{"a": tensor(0, 12), "b": tensor(6, 18)}, 18)}, []string{`tensor "b" with a gap or an overlap`}},
		{"a tensor of another size than its shape", single(), files{"model.safetensors": safetensors(map[string]any{"a": tensor(0, 14)}, 14)}, []string{`tensor "a" another size`}},
		{"no tensors", single(), files{"model.safetensors": safetensors(map[string]any{}, 0)}, []string{"holds no tensors"}},
		{"a missing shard", sharded(), files{"model-00002-of-00002.safetensors": "-"}, []string{"1 of the 2 shards", "model-00002-of-00002.safetensors", "hint:incomplete"}},
		{"a truncated shard", sharded(), files{"model-00002-of-00002.safetensors": cut(weights("c"), 1)}, []string{"model-00002-of-00002.safetensors: is truncated"}},
		{"the wrong shard", sharded(), files{"model-00002-of-00002.safetensors": weights("a", "b")}, []string{`model-00002-of-00002.safetensors does not hold tensor "c"`}},
		{"an index that leaves the directory", sharded(), files{"model.safetensors.index.json": `{"weight_map": {"a": "../x.safetensors"}}`}, []string{`names shard "../x.safetensors"`}},
		{"an index that names a directory below", sharded(), files{"model.safetensors.index.json": `{"weight_map": {"a": "sub/x.safetensors"}}`, "sub/x.safetensors": weights("a")}, []string{`names shard "sub/x.safetensors"`}},
		{"an index without a map", sharded(), files{"model.safetensors.index.json": `{}`}, []string{"weight_map is missing or empty"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for name, content := range c.put {
				if c.base[name] = content; content == "-" {
					delete(c.base, name)
				}
			}
			_, _, err := dataset.HashModel(t.Context(), model(t, c.base), nil)
			refused(t, err, forge.KindInvalid, c.says...)
		})
	}

	t.Run("a path that is missing, relative or a file", func(t *testing.T) {
		for path, says := range map[string]string{
			t.TempDir() + "/none": "does not exist", "models/tiny": "not an absolute path", file(t, "{}"): "is not a directory",
		} {
			_, _, err := dataset.HashModel(t.Context(), path, nil)
			refused(t, err, forge.KindInvalid, path, says)
		}
	})
	for name, change := range map[string]func(path string) error{
		"is cut short":          func(path string) error { return os.Truncate(path, 3<<20) },
		"is rewritten in place": func(path string) error { return os.Chtimes(path, time.Time{}, time.Now().Add(time.Second)) },
	} {
		t.Run("a file that "+name+" while it is hashed is a conflict", func(t *testing.T) {
			files := single()
			files["model.safetensors"] = safetensors(map[string]any{"a": map[string]any{"dtype": "U8", "shape": []int{4 << 20}, "data_offsets": []int{0, 4 << 20}}}, 4<<20)
			dir, once := model(t, files), false
			_, _, err := dataset.HashModel(t.Context(), dir, func(done, _ int64) {
				if !once && done > 1<<20 {
					once = true
					if err := change(dir + "/model.safetensors"); err != nil {
						t.Error(err)
					}
				}
			})
			refused(t, err, forge.KindConflict, "model.safetensors changed")
		})
	}
	t.Run("a file that appears while others are hashed is a conflict", func(t *testing.T) {
		dir, once := model(t, single()), false
		_, _, err := dataset.HashModel(t.Context(), dir, func(int64, int64) {
			if !once {
				once = true
				write(t, dir+"/added.txt", "x")
			}
		})
		refused(t, err, forge.KindConflict, dir+" changed")
	})
	t.Run("the end of the context is the error", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := dataset.HashModel(ctx, model(t, single()), nil); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func tensor(from, to int) map[string]any {
	return map[string]any{"dtype": "F32", "shape": []int{3}, "data_offsets": []int{from, to}}
}

func cut(s string, n int) string { return s[:len(s)-n] }
