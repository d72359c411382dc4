package dataset

import (
	"context"
	"path/filepath"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

const adapterWeights = "adapter_model.safetensors"

// InspectTrained reads the small files of weights that were trained elsewhere: an adapter as peft's save_pretrained leaves it, or a whole model,
// of which info says what it says of base models. Weights that are cut off, or a pickle, are refused.
func InspectTrained(dir string) (adapter bool, info ModelInfo, err error) {
	dir, fi, err := statRoot(dir)
	if err != nil {
		return false, info, err
	}
	if !fi.IsDir() {
		return false, info, forge.Invalidf("path", "%s is not a directory; weights are one, with config.json or adapter_config.json and safetensors", dir)
	}
	if !exists(dir, "adapter_config.json") {
		info, err = inspect(dir)
		return false, info, err
	}
	var config struct {
		Type string `json:"peft_type"`
	}
	if err := readJSON(filepath.Join(dir, "adapter_config.json"), &config); err != nil {
		return true, info, err
	}
	if !present(dir, adapterWeights) {
		e := forge.Invalidf("path", "%s holds an adapter's configuration and no %s", dir, adapterWeights)
		if present(dir, "adapter_model.bin") {
			e = forge.Invalidf("path", "%s holds its weights only as adapter_model.bin, a pickle, which can run code when it is loaded", dir)
		}
		return true, info, e.WithHint("save it anew where you trust it: PeftModel.from_pretrained(BASE, DIR).save_pretrained(NEW, safe_serialization=True)")
	}
	_, err = readHeader(filepath.Join(dir, adapterWeights))
	return true, info, err
}

// HashTrained hashes every file of such a directory, as HashModel does.
func HashTrained(ctx context.Context, dir string, progress func(done, total int64)) (forge.Manifest, error) {
	adapter, _, err := InspectTrained(dir)
	if err != nil {
		return forge.Manifest{}, err
	}
	if !adapter {
		m, _, err := HashModel(ctx, dir, progress)
		return m, err
	}
	if dir, _, err = statRoot(dir); err != nil {
		return forge.Manifest{}, err
	}
	return hashAll(ctx, dir, progress)
}

// hashAll hashes all that belongs to a directory of weights, and refuses one that changes meanwhile.
func hashAll(ctx context.Context, dir string, progress func(done, total int64)) (forge.Manifest, error) {
	names, total, err := modelFiles(ctx, dir)
	if err != nil {
		return forge.Manifest{}, err
	}
	man := forge.Manifest{Root: dir}
	m := &meter{ctx: ctx, total: total, report: progress}
	for _, name := range names {
		f, err := hashFile(dir, name, m)
		if err != nil {
			return forge.Manifest{}, err
		}
		man.Files = append(man.Files, f)
	}
	again, _, err := modelFiles(ctx, dir)
	if err != nil {
		return forge.Manifest{}, err
	}
	if strings.Join(again, "\x00") != strings.Join(names, "\x00") {
		return forge.Manifest{}, changed(dir)
	}
	return man, nil
}
