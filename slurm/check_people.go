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
	switch {
	case !slices.Contains(p.RunRoots, root):
		f.Status = FindingFail
		return f.means("the helper allows %s only %s there, and run directories would lie in %s: no run of theirs starts", account, strings.Join(p.RunRoots, ", "), root).
			fix("run_roots of cluster %s in %s", h.Cluster, HelperConfig)
	case differ(p.Bin, o.Tools.Bin) || differ(p.Conf, o.Tools.Conf):
		f.Status = FindingWarn
		return f.means("the helper speaks to Slurm by %q and %q, forged by %q and %q: they may not mean the same cluster", p.Bin, p.Conf, o.Tools.Bin, o.Tools.Conf).
			fix("bin and conf of cluster %s in %s", h.Cluster, HelperConfig)
	}
	return f
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
