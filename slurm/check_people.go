package slurm

import (
	"context"
	"os/user"
	"slices"
	"strings"
)

// checkActing sees whether forged may act as the person who asks, and whether what it would do there is allowed: the first run of that
// person would find out otherwise.
func checkActing(ctx context.Context, h *AsUser, o Options, account, why string) Finding {
	const name = "acts_as_you"
	if account == "" {
		return found(name, FindingUnknown, "there is no account to act as: %s", why).means("whether runs of people can start was not looked at").
			fix("forgectl user edit YOU --unix-uid UID, and check again")
	}
	p, err := h.Ping(ctx, account)
	if err != nil {
		f := found(name, FindingFail, "not as %s: %v", account, err).means("runs of theirs do not start, and those that run are not seen")
		if notInSudoers(err.Error()) {
			return f.fix("sudoers has no line for this; as contrib/sudoers/install writes it: %s ALL=(%%GROUP) NOPASSWD:NOSETENV: %s, with %s a member of GROUP", forgedsName(), h.helper(), account)
		}
		return f.fix("%s on this host: does it name cluster %s, and is %s's uid not below min_uid? forged config check looks at the rest", HelperConfig, h.Cluster, account)
	}
	f := found(name, FindingOK, "as %s (uid %d), by %s", account, p.UID, h.helper())
	root := strings.ReplaceAll(o.RunRoot, accountMark, account)
	kept, listed := keptBy(p, RunRootOf(o.With.ArtifactRoot, account))
	switch {
	case !slices.Contains(p.RunRoots, root):
		f.Status = FindingFail
		return f.means("the helper allows %s only %s there, and run directories would lie in %s: no run of theirs starts", account, strings.Join(p.RunRoots, ", "), root).
			fix("run_roots of cluster %s in %s", h.Cluster, HelperConfig)
	case differ(p.Bin, o.Tools.Bin) || differ(p.Conf, o.Tools.Conf):
		f.Status = FindingWarn
		return f.means("the helper speaks to Slurm by %q and %q, forged by %q and %q: they may not mean the same cluster", p.Bin, p.Conf, o.Tools.Bin, o.Tools.Conf).
			fix("bin and conf of cluster %s in %s", h.Cluster, HelperConfig)
	case o.With.ArtifactRoot == "":
	case !listed:
		f.Status = FindingFail
		return f.means("the helper copies nothing to %s: what their runs leave is not registered", kept.Path).fix("artifact_roots of cluster %s in %s", h.Cluster, HelperConfig)
	case kept.Problem != "":
		f.Status = FindingFail
		return f.means("%s %s: what their runs leave is not registered", kept.Path, kept.Problem).
			fix("install -d -o %s -g GROUP -m 2750 %s, where GROUP are those who may use what they train", account, kept.Path)
	case kept.Missing:
		f.Status = FindingWarn
		return f.means("%s is not there: what their runs leave is not registered, unless the directory above it is theirs", kept.Path).
			fix("install -d -o %s -g GROUP -m 2750 %s, where GROUP are those who may use what they train", account, kept.Path)
	case !kept.Shared:
		f.Status = FindingWarn
		return f.means("nobody else reads in %s: others cannot train on, evaluate or serve what %s trains", kept.Path, account).
			fix("if they are to: chgrp GROUP %s && chmod 2750 %s", kept.Path, kept.Path)
	}
	return f
}

// keptBy is what the helper says of an artefact root.
func keptBy(p Pong, root string) (seen ArtefactRoot, listed bool) {
	for _, r := range p.ArtifactRoots {
		if r.Path == root {
			return r, true
		}
	}
	return ArtefactRoot{Path: root}, false
}

// differ: where nothing is said the machine's own is meant, which may well be the same.
func differ(a, b string) bool { return a != "" && b != "" && a != b }

// notInSudoers knows sudo's own refusal, with -n, from whatever the helper says.
func notInSudoers(words string) bool {
	return slices.ContainsFunc([]string{"a password is required", "is not allowed to execute", "may not run sudo", "is not in the sudoers file"},
		func(part string) bool { return strings.Contains(words, part) })
}

func forgedsName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "forge"
}
