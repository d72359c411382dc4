package daemon

import (
	"crypto/x509"
	"fmt"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// HooksConfig says whom hooks may tell. Nothing of it: nobody outside.
type HooksConfig struct {
	AllowHosts  []string                     `yaml:"allow_hosts"` // of webhooks: HOST, *.DOMAIN, HOST:PORT, http://HOST
	CA          string                       `yaml:"ca"`          // PEM with more authorities for them
	Proxy       string                       `yaml:"proxy"`       // URL; the environment's is not looked at
	Commands    map[string]HookCommandConfig `yaml:"commands"`
	Sendmail    string                       `yaml:"sendmail"`
	MailFrom    string                       `yaml:"mail_from"`
	MailDomains []string                     `yaml:"mail_domains"` // DOMAIN, *.DOMAIN
}

// HookCommandConfig is a program that hooks may run, as forged's account.
type HookCommandConfig struct {
	Argv    []string       `yaml:"argv"`
	Tenants []string       `yaml:"tenants"` // whose hooks may run it, besides the site's own
	Timeout forge.Duration `yaml:"timeout"`
}

// DefaultHookCommandTimeout is how long a program of a hook may take where nothing else is said.
const (
	DefaultHookCommandTimeout = 30 * time.Second
	maxHookCommandTimeout     = 10 * time.Minute
	maxHookCA                 = 1 << 20
)

func (c *HooksConfig) resolve() {
	if len(c.Commands) == 0 {
		c.Commands = nil
	}
	if len(c.AllowHosts) == 0 {
		c.AllowHosts = nil
	}
	if len(c.MailDomains) == 0 {
		c.MailDomains = nil
	}
	for name, cmd := range c.Commands {
		def(&cmd.Timeout, forge.Duration(DefaultHookCommandTimeout))
		c.Commands[name] = cmd
	}
	if c.Sendmail != "" && c.MailFrom == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "localhost"
		}
		c.MailFrom = "forge@" + host
	}
}

func (c HooksConfig) check(bad func(field, format string, args ...any)) {
	for i, entry := range c.AllowHosts {
		if _, err := parseHostRule(entry); err != nil {
			bad(fmt.Sprintf("hooks.allow_hosts[%d]", i), "%v", err)
		}
	}
	if _, err := c.roots(); err != nil {
		bad("hooks.ca", "%v", err)
	}
	if u, err := url.Parse(c.Proxy); c.Proxy != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		bad("hooks.proxy", "want http://HOST:PORT or https://HOST:PORT")
	}
	for name, cmd := range c.Commands {
		field := "hooks.commands." + name
		if err := forge.CheckName(name); err != nil {
			bad(field, "%v", err)
		}
		if len(cmd.Argv) == 0 || !filepath.IsAbs(cmd.Argv[0]) || slices.ContainsFunc(cmd.Argv, func(a string) bool { return strings.ContainsRune(a, 0) }) {
			bad(field+".argv", "want a list that begins with the absolute path of a program; no shell reads it")
		}
		if cmd.Timeout <= 0 || cmd.Timeout > forge.Duration(maxHookCommandTimeout) {
			bad(field+".timeout", "%s: want more than 0 and at most %s", cmd.Timeout, forge.Duration(maxHookCommandTimeout))
		}
	}
	if c.Sendmail != "" && !filepath.IsAbs(c.Sendmail) {
		bad("hooks.sendmail", "%q: want an absolute path", c.Sendmail)
	}
	if c.MailFrom != "" {
		if err := checkAddress(c.MailFrom); err != nil {
			bad("hooks.mail_from", "%v", err)
		}
	}
	for i, d := range c.MailDomains {
		if rest := strings.TrimPrefix(d, "*."); rest == "" || strings.ContainsAny(rest, "*@ /:") {
			bad(fmt.Sprintf("hooks.mail_domains[%d]", i), "%q: want DOMAIN or *.DOMAIN", d)
		}
	}
}

// roots are the authorities that webhooks are held to; nil: the system's alone.
func (c HooksConfig) roots() (*x509.CertPool, error) {
	if c.CA == "" {
		return nil, nil
	}
	pem, err := readBounded(c.CA, maxHookCA)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.CA, err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: want PEM with at least one certificate", c.CA)
	}
	return pool, nil
}

// hostRule is one entry of hooks.allow_hosts.
type hostRule struct {
	scheme, host, port string
	wild               bool // host is what a name ends with, after a dot
}

func parseHostRule(entry string) (hostRule, error) {
	text := entry
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" {
		return hostRule{}, fmt.Errorf("%q: want HOST, *.DOMAIN, either with :PORT, or http://HOST", entry)
	}
	r := hostRule{scheme: u.Scheme, port: portOf(u)}
	r.host, r.wild = strings.CutPrefix(strings.ToLower(u.Hostname()), "*.")
	if strings.Contains(r.host, "*") || r.wild && !strings.Contains(r.host, ".") {
		return hostRule{}, fmt.Errorf("%q: a * stands only at the front, before a domain of two parts at least", entry)
	}
	return r, nil
}

func portOf(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "http" {
		return "80"
	}
	return "443"
}

// allows says whether webhooks may go to a URL, and whether an entry names its very host: only then it may lie in a network of the site's own.
func (c HooksConfig) allows(u *url.URL) (named, ok bool) {
	host := strings.ToLower(u.Hostname())
	for _, entry := range c.AllowHosts {
		r, err := parseHostRule(entry)
		if err != nil || r.scheme != u.Scheme || r.port != portOf(u) {
			continue
		}
		if r.wild && strings.HasSuffix(host, "."+r.host) {
			ok = true
		} else if !r.wild && r.host == host {
			return true, true
		}
	}
	return false, ok
}

// parseHookURL refuses what is no URL that a webhook may have. What the URL is stands in none of its errors: its path may be a secret.
func (c HooksConfig) parseHookURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, forge.Invalidf("url", "want https://HOST/PATH")
	case u.User != nil:
		return nil, forge.Invalidf("url", "has a name or password before its host").WithHint("forge signs what it posts; a token may stand in the path")
	case u.Fragment != "":
		return nil, forge.Invalidf("url", "has a #fragment, which is never sent")
	}
	if _, ok := c.allows(u); !ok {
		return nil, forge.Invalidf("url", "webhooks to %s://%s are not allowed here", u.Scheme, u.Host).
			WithHint("an operator adds the host to hooks.allow_hosts in forged's configuration, then forged reload; plain http and other ports must stand there as such")
	}
	return u, nil
}

// checkCommand says whether hooks of a tenant may run a program of the site's. The site's own may run all.
func (c HooksConfig) checkCommand(name, tenant string, site bool) (HookCommandConfig, error) {
	cmd, ok := c.Commands[name]
	if !ok || !site && !slices.Contains(cmd.Tenants, tenant) {
		return cmd, forge.Invalidf("command", "there is no program %.64q that hooks of yours may run", name).
			WithHint("an operator adds it to hooks.commands in forged's configuration, with your tenant in tenants")
	}
	return cmd, nil
}

// checkAddress takes an address and nothing around it.
func checkAddress(text string) error {
	a, err := mail.ParseAddress(text)
	if err != nil || a.Address != text || a.Name != "" || strings.HasPrefix(text, "-") || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"<>(),;:\|`, r) }) {
		return fmt.Errorf("%.80q: want one address, NAME@DOMAIN", text)
	}
	return nil
}

// checkMail says whether mail may go to an address.
func (c HooksConfig) checkMail(to string) error {
	if c.Sendmail == "" {
		return forge.Invalidf("mail", "this site sends no mail").WithHint("an operator names its sendmail in hooks.sendmail of forged's configuration")
	}
	if err := checkAddress(to); err != nil {
		return forge.Invalidf("mail", "%v", err)
	}
	domain := strings.ToLower(to[strings.LastIndex(to, "@")+1:])
	for _, d := range c.MailDomains {
		rest, wild := strings.CutPrefix(strings.ToLower(d), "*.")
		if wild && strings.HasSuffix(domain, "."+rest) || !wild && rest == domain {
			return nil
		}
	}
	return forge.Invalidf("mail", "mail to %s is not allowed here", domain).WithHint("an operator adds the domain to hooks.mail_domains in forged's configuration")
}
