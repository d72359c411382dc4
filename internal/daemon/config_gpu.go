package daemon

import (
	"os"
	"path/filepath"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// GPUConfig is how GPUs are watched, on this host and by shims on others.
type GPUConfig struct {
	SampleEvery forge.Duration `yaml:"sample_every"`
	RulesFile   string         `yaml:"rules_file"`   // the site's changes to the rules of GPU health and to the log patterns; empty: the built-in ones
	AppPatience forge.Duration `yaml:"app_patience"` // how long a run may take to end by itself after a fault of its own on a GPU
	LibraryPath string         `yaml:"library_path"` // directory of libnvidia-ml.so.1; empty: the loader finds it
	DCGM        bool           `yaml:"dcgm_metrics"` // DCGM_FI_DEV_* on /metrics as well, for nodes without a dcgm-exporter
	JobMetrics  bool           `yaml:"job_metrics"`  // forge_gpu_job_info on /metrics, which names tenants, users and runs to whoever may read the page
	JobMap      string         `yaml:"job_map_dir"`  // dcgm-exporter's --hpc-job-mapping-dir, where this host has one
}

// Defaults of GPUConfig.
const (
	DefaultSampleEvery = 5 * time.Second
	DefaultAppPatience = time.Minute
	minSampleEvery     = 100 * time.Millisecond
)

func (c *GPUConfig) resolve() {
	def(&c.SampleEvery, forge.Duration(DefaultSampleEvery))
	def(&c.AppPatience, forge.Duration(DefaultAppPatience))
}

func (c GPUConfig) check(bad refusal) {
	if c.SampleEvery.D() < minSampleEvery {
		bad("gpus.sample_every", "%s: want at least %s", c.SampleEvery, minSampleEvery)
	}
	if c.AppPatience.D() < 0 {
		bad("gpus.app_patience", "%s: want 0 or more", c.AppPatience)
	}
	for _, f := range []struct{ name, path string }{{"rules_file", c.RulesFile}, {"library_path", c.LibraryPath}, {"job_map_dir", c.JobMap}} {
		if f.path != "" && !filepath.IsAbs(f.path) {
			bad("gpus."+f.name, "%q: want an absolute path", f.path)
		}
	}
	if st, err := os.Stat(c.LibraryPath); err == nil && !st.IsDir() {
		bad("gpus.library_path", "%q is a file; want the directory that it is in: %s", c.LibraryPath, filepath.Dir(c.LibraryPath))
	}
}
