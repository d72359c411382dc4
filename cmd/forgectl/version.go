package main

import (
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"github.com/forge-ml/forge-ml/internal/api"
)

// Set by the linker: -X main.version=… -X main.commit=….
var (
	version = "dev"
	commit  = ""
)

func (a *app) versionCommand() *cli.Command {
	return &cli.Command{Name: "version", Usage: "say which forgectl this is; asks no server", Action: func(c *cli.Context) error {
		if _, err := positionals(c); err != nil {
			return err
		}
		return a.printVersion()
	}}
}

func (a *app) printVersion() error {
	v := api.Version{Version: version, Commit: commitOf(), Go: runtime.Version()}
	p := a.printer()
	switch {
	case p.mode == modeJSON:
		return p.done(p.json(v))
	case p.people():
		p.line("forgectl %s (commit %s, %s)", v.Version, p.orDash(v.Commit), v.Go)
	default:
		p.line("%s\t%s\t%s", v.Version, v.Commit, v.Go)
	}
	return p.done(nil)
}

// commitOf falls back to what the Go tool recorded, for builds without ldflags.
func commitOf() string {
	if commit != "" {
		return commit
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return short(s.Value)
		}
	}
	return ""
}
