package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

const (
	socketFile = "forged.sock"
	keyFile    = "operator.key"
	maxKeyFile = 512
)

// connect finds the server and the key: flags, then the environment, then the state directory
// of a forged on this host.
func (a *app) connect() (*client.Client, error) {
	server, err := a.address()
	if err != nil {
		return nil, err
	}
	key := a.key
	if key == "" {
		key = a.Getenv("FORGE_API_KEY")
	}
	// The key file is for its own socket only: it must not travel to an address that somebody
	// typed.
	if path, local := socketPath(server); key == "" && local {
		if key, err = readKey(filepath.Join(filepath.Dir(path), keyFile)); err != nil {
			return nil, err
		}
	}
	return client.New(client.Options{Address: server, Key: strings.TrimSpace(key), UserAgent: "forgectl/" + version})
}

func (a *app) address() (string, error) {
	if a.server != "" {
		return a.server, nil
	}
	if s := a.Getenv("FORGE_SERVER"); s != "" {
		return s, nil
	}
	if d := a.Getenv("FORGE_STATE"); d != "" {
		abs, err := filepath.Abs(d)
		if err != nil {
			return "", fmt.Errorf("FORGE_STATE %q: %w", d, err)
		}
		return "unix://" + filepath.Join(abs, socketFile), nil
	}
	if d := a.Getenv("XDG_STATE_HOME"); filepath.IsAbs(d) {
		return "unix://" + filepath.Join(d, "forge", socketFile), nil
	}
	home := a.Getenv("HOME")
	if home == "" {
		return "", forge.Invalidf("server", "is not known: HOME is not set").WithHint("give it with --server or FORGE_SERVER")
	}
	return "unix://" + filepath.Join(home, ".local", "state", "forge", socketFile), nil
}

func socketPath(server string) (string, bool) {
	if p, ok := strings.CutPrefix(server, "unix://"); ok {
		return p, true
	}
	return server, strings.HasPrefix(server, "/")
}

// readKey reads the key that forged init left for this host's operator. Absent is no error:
// the server says what it wants. A file that others can read is refused, as ssh does: it is no
// secret any more.
func readKey(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return "", nil
	}
	if err != nil {
		return "", forge.Invalidf("key", "the key file cannot be read: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", forge.Invalidf("key", "the key file cannot be read: %w", err)
	}
	if !st.Mode().IsRegular() {
		return "", forge.Invalidf("key", "%s is not a file", path)
	}
	if p := st.Mode().Perm(); p&0o077 != 0 {
		return "", forge.Invalidf("key", "%s can be read by others (mode %04o); it must be 0600", path, p).
			WithHint("chmod 600 %s; if others had the time to read it: forgectl key revoke, and key create", path)
	}
	b := make([]byte, maxKeyFile+1)
	n, err := f.Read(b)
	if err != nil || n > maxKeyFile {
		return "", forge.Invalidf("key", "%s does not hold a key", path)
	}
	return strings.TrimSpace(string(b[:n])), nil
}
