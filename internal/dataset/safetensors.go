package dataset

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

const (
	singleWeights = "model.safetensors"
	weightsIndex  = "model.safetensors.index.json"
	maxHeader     = 100_000_000 // the format's own limit
)

// tensor is one entry of a safetensors header.
type tensor struct {
	DType   string   `json:"dtype"`
	Shape   []int64  `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

// dtypeBits is the width of an element, by dtype; a dtype that is not here is newer than this table
// and its extent is taken as it is.
var dtypeBits = map[string]int64{
	"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
	"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
	"I16": 16, "U16": 16, "F16": 16, "BF16": 16,
	"I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}

// checkWeights finds the weights as transformers would (one file before an index) and returns
// how many files they are. Each tensor that they hold is shown to see.
func checkWeights(dir string, see func(name string, t tensor)) (shards int, err error) {
	if present(dir, singleWeights) {
		header, err := readHeader(filepath.Join(dir, singleWeights))
		for name, t := range header {
			see(name, t)
		}
		return 1, err
	}
	if present(dir, weightsIndex) {
		return checkShards(dir, see)
	}
	e := forge.Invalidf("path", "%s holds no weights: neither %s nor %s exists", dir, singleWeights, weightsIndex)
	if pickled, _ := filepath.Glob(filepath.Join(dir, "pytorch_model*.bin")); len(pickled) > 0 {
		e = forge.Invalidf("path", "%s holds its weights only as %s, a pickle, which can run code when it is loaded", dir, filepath.Base(pickled[0])).
			WithHint("Convert it on a machine that you trust: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW, safe_serialization=True)")
	}
	return 0, e
}

// present is true for a dangling link as well: opening it then says what is wrong.
func present(dir, name string) bool {
	_, err := os.Lstat(filepath.Join(dir, name))
	return err == nil
}

func checkShards(dir string, see func(string, tensor)) (int, error) {
	path := filepath.Join(dir, weightsIndex)
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := readJSON(path, &index); err != nil {
		return 0, err
	}
	if len(index.WeightMap) == 0 {
		return 0, forge.Invalidf("path", "%s: weight_map is missing or empty", path)
	}
	byShard := map[string][]string{}
	for name, shard := range index.WeightMap {
		byShard[shard] = append(byShard[shard], name)
	}
	var shards, missing []string
	for shard := range byShard {
		if shard != filepath.Base(shard) || !filepath.IsLocal(shard) {
			return 0, forge.Invalidf("path", "%s names shard %q, which is not a file beside it", path, shard)
		}
		shards = append(shards, shard)
		if !present(dir, shard) {
			missing = append(missing, shard)
		}
	}
	slices.Sort(shards)
	if len(missing) > 0 {
		slices.Sort(missing)
		return 0, forge.Invalidf("path", "%s: %d of the %d shards that %s names do not exist: %s", dir, len(missing), len(shards), weightsIndex, some(missing)).
			WithHint("The download or copy is incomplete; run it again")
	}
	for _, shard := range shards {
		header, err := readHeader(filepath.Join(dir, shard))
		if err != nil {
			return 0, err
		}
		slices.Sort(byShard[shard])
		for _, name := range byShard[shard] {
			t, ok := header[name]
			if !ok {
				return 0, forge.Invalidf("path", "%s does not hold tensor %.80q, which %s says is there", filepath.Join(dir, shard), name, weightsIndex)
			}
			see(name, t)
		}
	}
	return len(shards), nil
}

// readHeader reads and checks the header of a safetensors file: its tensors must cover the rest
// of the file to the byte, without gap or overlap. That finds every truncated download.
func readHeader(path string) (map[string]tensor, error) {
	f, err := openPath(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size := f.before.Size()
	bad := func(format string, args ...any) (map[string]tensor, error) {
		return nil, forge.Invalidf("path", "%s: %w", path, fmt.Errorf(format, args...))
	}
	var head [8]byte
	if _, err := io.ReadFull(f, head[:]); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return bad("is %d bytes long and no safetensors file", size)
		}
		return nil, unreadable(path, err)
	}
	if bytes.Equal(head[:], []byte("version ")) {
		return nil, forge.Invalidf("path", "%s is a Git LFS pointer and not the weights themselves", path).
			WithHint("Fetch the files: git lfs pull")
	}
	n := binary.LittleEndian.Uint64(head[:])
	if n > maxHeader || n < 2 {
		return bad("is no safetensors file: its header would be %d bytes long", n)
	}
	if int64(n) > size-8 {
		return bad("is truncated: %d bytes long, its header alone takes %d", size, n+8)
	}
	raw := make([]byte, n)
	if _, err := io.ReadFull(f, raw); err != nil {
		return nil, unreadable(path, err)
	}
	tensors, err := parseHeader(raw, size-8-int64(n))
	if err != nil {
		return bad("%w", err)
	}
	return tensors, nil
}

// parseHeader is the header of a file that has so many bytes of data behind it.
func parseHeader(raw []byte, data int64) (map[string]tensor, error) {
	var entries map[string]json.RawMessage
	if err := json.Unmarshal(raw, &entries); err != nil {
		return nil, fmt.Errorf("its safetensors header is malformed: %w", err)
	}
	delete(entries, "__metadata__")
	tensors := make(map[string]tensor, len(entries))
	for name, e := range entries {
		var t tensor
		if err := json.Unmarshal(e, &t); err != nil {
			return nil, fmt.Errorf("its header entry %.80q is malformed: %w", name, err)
		}
		tensors[name] = t
	}
	if p := checkExtents(tensors, data); p != "" {
		return nil, errors.New(p)
	}
	return tensors, nil
}

// checkExtents says what is wrong with the tensors' places in size bytes of data.
func checkExtents(tensors map[string]tensor, size int64) string {
	names := make([]string, 0, len(tensors))
	for n := range tensors {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b string) int {
		x, y := tensors[a].Offsets, tensors[b].Offsets
		return cmp.Or(cmp.Compare(x[0], y[0]), cmp.Compare(x[1], y[1]), strings.Compare(a, b))
	})
	var end int64
	for _, n := range names {
		t := tensors[n]
		if t.Offsets[0] != end || t.Offsets[1] < t.Offsets[0] {
			return fmt.Sprintf("its header places tensor %.80q with a gap or an overlap", n)
		}
		if want, known := extent(t); known && want != t.Offsets[1]-t.Offsets[0] {
			return fmt.Sprintf("its header gives tensor %.80q another size than its dtype and shape need", n)
		}
		end = t.Offsets[1]
	}
	switch {
	case len(names) == 0:
		return "holds no tensors"
	case end > size:
		return fmt.Sprintf("is truncated: %d bytes are missing at its end", end-size)
	case end < size:
		return fmt.Sprintf("is %d bytes longer than its header says", size-end)
	}
	return ""
}

// extent is the number of bytes that dtype and shape need; unknown for a new dtype. A shape
// that overflows gives -1, which no extent equals.
func extent(t tensor) (n int64, known bool) {
	w, ok := dtypeBits[t.DType]
	if !ok {
		return 0, false
	}
	n = w
	for _, d := range t.Shape {
		if d < 0 || d > 0 && n > (1<<62)/d {
			return -1, true
		}
		n *= d
	}
	return (n + 7) / 8, true
}
