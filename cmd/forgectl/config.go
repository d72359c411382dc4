package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/goccy/go-yaml"

	forge "github.com/forge-ml/forge-ml"
)

// maxConfig bounds the configuration file; a hundred contexts have a few KB.
const maxConfig = 256 << 10

// config is ~/.config/forge/config.yaml: the servers that this user goes to, and the keys for them.
type config struct {
	Current  string             `yaml:"current,omitempty"`
	Contexts map[string]*target `yaml:"contexts,omitempty"`
}

// target is one context: a server and everything that is for that server alone.
type target struct {
	Server      string `yaml:"server"`
	Key         string `yaml:"key,omitempty"`
	KeyFile     string `yaml:"key_file,omitempty"`
	Tenant      string `yaml:"tenant,omitempty"`
	CA          string `yaml:"ca,omitempty"`           // file of certificates that may sign the server's
	SecretsFile string `yaml:"secrets_file,omitempty"` // of runs that name none
	Fingerprint string `yaml:"fingerprint,omitempty"`  // SHA-256 of the server's certificate
}

// configPath is where the file is; empty when nothing says where.
func (a *app) configPath() string {
	if p := a.Getenv("FORGE_CONFIG"); p != "" {
		return p
	}
	if d := a.Getenv("XDG_CONFIG_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "forge", "config.yaml")
	}
	if home := a.Getenv("HOME"); home != "" {
		return filepath.Join(home, ".config", "forge", "config.yaml")
	}
	return ""
}

// loadConfig reads the file once a call. That there is none is no error.
func (a *app) loadConfig() (*config, error) {
	if a.cfg != nil {
		return a.cfg, nil
	}
	path := a.configPath()
	c := &config{}
	if path != "" {
		b, err := a.readSecret(path, "config", maxConfig, true)
		if err != nil {
			return nil, err
		}
		if c, err = parseConfig(path, b); err != nil {
			return nil, err
		}
	}
	a.cfg = c
	return c, nil
}

func parseConfig(path string, b []byte) (*config, error) {
	c := &config{}
	if err := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict()).Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return nil, configError(path, err)
	}
	for name, t := range c.Contexts {
		switch {
		case t == nil || t.Server == "":
			return nil, forge.Invalidf("config", "%s: context %q names no server", path, name).WithHint("forgectl context rm %s; forgectl login SERVER --name %s", name, name)
		case t.Key != "" && t.KeyFile != "":
			return nil, forge.Invalidf("config", "%s: context %q has both key and key_file; one of them is the key", path, name)
		}
	}
	if c.Current != "" && c.Contexts[c.Current] == nil {
		return nil, forge.Invalidf("config", "%s: the current context %q is not among the contexts %s", path, c.Current, strings.Join(c.names(), ", ")).
			WithHint("forgectl context use NAME, after correcting the line that begins with current:")
	}
	return c, nil
}

func configError(path string, err error) error {
	var ye yaml.Error
	if !errors.As(err, &ye) || ye.GetToken() == nil || ye.GetToken().Position == nil {
		return forge.Invalidf("config", "%s: %s", path, firstLine(err.Error()))
	}
	return forge.Invalidf("config", "%s line %d: %s", path, ye.GetToken().Position.Line, firstLine(ye.GetMessage())).
		WithHint("the file has current, and contexts: NAME: with server, key or key_file, tenant, ca, fingerprint, secrets_file")
}

func (c *config) names() []string {
	var names []string
	for n := range c.Contexts {
		names = append(names, n)
	}
	return sorted(names)
}

// context finds a context by name.
func (c *config) context(name, field string) (*target, error) {
	if t := c.Contexts[name]; t != nil {
		return t, nil
	}
	e := forge.Invalidf(field, "there is no context %q%s", name, didYouMean(name, c.names()))
	if len(c.Contexts) == 0 {
		return nil, e.WithHint("forgectl login SERVER --name %s", name)
	}
	return nil, e.WithHint("there are %s; another one comes from: forgectl login SERVER --name %s", strings.Join(c.names(), ", "), name)
}

// readSecret reads a file that holds secrets. What others can read is refused, as ssh does: it is no
// secret any more. With own, what belongs to somebody else is refused too: whoever wrote it would
// say to which server our requests go. Absent is empty.
func (a *app) readSecret(path, field string, limit int, own bool) ([]byte, error) {
	link, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return nil, nil
	case err != nil:
		return nil, forge.Invalidf(field, "%s cannot be read: %w", path, cause(err))
	}
	if uid := ownerOf(link); own && link.Mode()&fs.ModeSymlink != 0 && uid != a.UID {
		return nil, forge.Invalidf(field, "%s is a link that belongs to uid %d, and you are uid %d", path, uid, a.UID).
			WithHint("rm %s, and make the file yourself", path)
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) && !own {
		return nil, nil
	}
	if err != nil {
		return nil, forge.Invalidf(field, "%s cannot be read: %w", path, cause(err))
	}
	defer f.Close()
	st, err := f.Stat() // of what was opened: the name may mean something else by now
	if err != nil {
		return nil, forge.Invalidf(field, "%s cannot be read: %w", path, cause(err))
	}
	if err := a.checkSecret(path, field, st, own); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, forge.Invalidf(field, "%s cannot be read: %w", path, cause(err))
	}
	if len(b) > limit {
		return nil, forge.Invalidf(field, "%s is larger than %d bytes", path, limit)
	}
	return b, nil
}

func (a *app) checkSecret(path, field string, st fs.FileInfo, own bool) error {
	p := st.Mode().Perm()
	switch uid := ownerOf(st); {
	case !st.Mode().IsRegular():
		return forge.Invalidf(field, "%s is not a file", path)
	case own && uid != a.UID:
		return forge.Invalidf(field, "%s belongs to uid %d, and you are uid %d: it is not yours to trust", path, uid, a.UID).
			WithHint("chown %d %s, if what it says is what you want; else name another file in FORGE_CONFIG", a.UID, path)
	case p&0o077 != 0:
		return forge.Invalidf(field, "%s can be read by others (mode %04o); it must be 0600", path, p).
			WithHint("chmod 600 %s; if others had the time to read it: forgectl key rotate", path)
	}
	return nil
}

func ownerOf(st fs.FileInfo) int {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return int(s.Uid)
	}
	return -1
}

// changeConfig changes the file under a lock, so that two logins at once lose none, and replaces
// it whole: a reader sees the old one or the new one.
func (a *app) changeConfig(change func(*config) error) error {
	path := a.configPath()
	if path == "" {
		return forge.Invalidf("config", "its place is not known: HOME is not set").WithHint("name a file in FORGE_CONFIG")
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // the link stays, where somebody keeps such files elsewhere
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return forge.Invalidf("config", "%s cannot be made: %w", dir, cause(err))
	}
	lock, err := os.Open(dir)
	if err != nil {
		return forge.Invalidf("config", "%s cannot be opened: %w", dir, cause(err))
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return forge.Invalidf("config", "%s cannot be locked: %w", dir, err)
	}
	a.cfg = nil
	c, err := a.loadConfig()
	if err != nil {
		return err
	}
	if err := change(c); err != nil {
		return err
	}
	b, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return replaceFile(path, b)
}

func replaceFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".config-*") // 0600 from the start
	if err != nil {
		return forge.Invalidf("config", "%s cannot be written: %w", path, cause(err))
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return forge.Invalidf("config", "%s cannot be written: %w", path, cause(err))
	}
	return nil
}

// cause is what the system said, without the path, which the message has already.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
