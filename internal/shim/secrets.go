package shim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"

	forge "github.com/forge-ml/forge-ml"
)

// Bounds of a secrets file; one with a dozen tokens has a few KB.
const (
	maxSecrets     = 64 << 10
	maxSecretWords = 256
)

var secretName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// readSecrets reads the KEY=VALUE lines that go into the environment of ranks and nowhere else: not into env.sh, config.json or a
// log. It is read here, in the job, as who the job runs as: forged never sees what is in it. Nothing of it is ever quoted: what looks
// like a broken line may be the secret itself.
func readSecrets(path string) (env []string, err error) {
	wrong := func(format string, args ...any) error {
		return refuse(forge.StopInputs, "secrets file %s %s", path, fmt.Sprintf(format, args...))
	}
	// Not a pipe that nobody writes to, and not a link that somebody else may turn around.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, wrong("does not exist on this node")
	case errors.Is(err, syscall.ELOOP):
		return nil, wrong("is a link; name the file itself")
	case errors.Is(err, fs.ErrPermission):
		return nil, wrong("cannot be read by uid %d, which the job runs as; it must be its own, mode 0600", os.Geteuid())
	case errors.Is(err, syscall.ENXIO), errors.Is(err, syscall.ENODEV):
		return nil, wrong("is not a regular file")
	case err != nil:
		return nil, refuse(forge.StopNodeEnv, "secrets file %s cannot be opened on this node: %v", path, errors.Unwrap(err))
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, refuse(forge.StopNodeEnv, "secrets file %s cannot be looked at on this node: %v", path, errors.Unwrap(err))
	}
	own, ok := st.Sys().(*syscall.Stat_t)
	switch {
	case !st.Mode().IsRegular():
		return nil, wrong("is not a regular file")
	case !ok || int(own.Uid) != os.Geteuid():
		return nil, wrong("belongs to uid %d, and the job runs as uid %d: it must be that one's own", own.Uid, os.Geteuid())
	case st.Mode().Perm()&0o077 != 0:
		return nil, wrong("can be read by others (mode %04o); chmod 600, and replace what is in it if they had the time", st.Mode().Perm())
	case own.Nlink > 1:
		return nil, wrong("has %d names (hard links); make it a file of its own", own.Nlink)
	case st.Size() > maxSecrets:
		return nil, wrong("has %d bytes; at most %d are read", st.Size(), maxSecrets)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecrets+1))
	if err != nil {
		return nil, refuse(forge.StopNodeEnv, "secrets file %s cannot be read on this node", path)
	}
	env, why := parseSecrets(b)
	if why != "" {
		return nil, wrong("%s", why)
	}
	return env, nil
}

// parseSecrets reads lines of KEY=VALUE, with or without export and quotes around the value, and # for a comment. Nothing is
// expanded.
func parseSecrets(b []byte) (env []string, why string) {
	if len(b) > maxSecrets || bytes.IndexByte(b, 0) >= 0 {
		return nil, "holds a NUL byte, or grows while it is read"
	}
	seen := map[string]bool{}
	for n, line := range strings.Split(string(b), "\n") {
		line = strings.TrimSpace(strings.TrimSuffix(line, "\r"))
		if line == "" || line[0] == '#' {
			continue
		}
		line = strings.TrimSpace(strings.TrimPrefix(line, "export "))
		name, value, ok := strings.Cut(line, "=")
		if !ok || !secretName.MatchString(name) {
			return nil, fmt.Sprintf("line %d is not KEY=VALUE", n+1)
		}
		if q := value; len(q) >= 2 && (q[0] == '"' || q[0] == '\'') && q[len(q)-1] == q[0] {
			value = q[1 : len(q)-1]
		}
		if seen[name] {
			return nil, fmt.Sprintf("line %d: %s stands twice", n+1, name)
		}
		if seen[name] = true; len(seen) > maxSecretWords {
			return nil, fmt.Sprintf("has more than %d keys", maxSecretWords)
		}
		env = append(env, name+"="+value)
	}
	return env, ""
}

// withSecrets lays secrets beside a rank's environment. What the contract says there stays: a RANK of somebody's own would tear the
// gang apart.
func withSecrets(env, secrets []string) ([]string, error) {
	for _, kv := range secrets {
		name, _, _ := strings.Cut(kv, "=")
		if slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") }) {
			return nil, refuse(forge.StopInputs, "the secrets file sets %s, which forge or the cluster sets (docs/run-contract.md); leave it out", name)
		}
	}
	return slices.Concat(env, secrets), nil
}
