package main

import (
	"io/fs"
	"os"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// secretsFile finds which file a run's secrets are in: the flag's, the run file's, else that of the context. Only its path goes to
// the server. Where the file can be seen from here, what the job would refuse in the night is refused now; whose it must be only
// the cluster knows.
func (a *app) secretsFile(c *cli.Context, r *api.SubmitRunRequest) error {
	const field = "secrets-file"
	text(c, field, &r.SecretsFile)
	if r.SecretsFile == "" && !c.IsSet(field) {
		if w, err := a.where(); err == nil && w.context != "" { // an error is connect's to tell
			if cfg, err := a.loadConfig(); err == nil && cfg.Contexts[w.context] != nil {
				r.SecretsFile = cfg.Contexts[w.context].SecretsFile
			}
		}
	}
	if r.SecretsFile == "" {
		return nil
	}
	path, err := absolute(expandHome(r.SecretsFile, a.Getenv("HOME")))
	if err != nil {
		return err
	}
	r.SecretsFile = path
	st, err := os.Lstat(path)
	if err != nil {
		return nil // it may be there where the job runs
	}
	switch m := st.Mode(); {
	case m&fs.ModeSymlink != 0:
		return forge.Invalidf(field, "%s is a link; the job reads only the file itself", path).WithHint("name what it leads to: readlink -f %s", path)
	case !m.IsRegular():
		return forge.Invalidf(field, "%s is not a file", path)
	case m.Perm()&0o077 != 0:
		return forge.Invalidf(field, "%s can be read by others (mode %04o); it must be 0600", path, m.Perm()).WithHint("chmod 600 %s; if others had the time to read it, replace what is in it", path)
	}
	return nil
}
