package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"mime"
	"mime/quotedprintable"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	hookLeave       = 2 * time.Second // for a program's pipes, once it is killed
	sendmailTimeout = 30 * time.Second
	maxHookOutput   = 4 << 10
	maxSubject      = 150
)

// command runs a program of the site's: no shell, an environment of its own, the event on its standard input. It is killed with all that it started
// when its time is over.
func command(ctx context.Context, c HookCommandConfig, e errand, body []byte) outcome {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout.D())
	defer cancel()
	return run(ctx, c.Argv, []string{"FORGE_DELIVERY=" + e.id, "FORGE_EVENT=" + string(e.event.Type), "FORGE_HOOK=" + e.hook.Name}, body)
}

func run(ctx context.Context, argv, env []string, input []byte) outcome {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	out := &head{most: maxHookOutput}
	cmd.Dir, cmd.Env = "/", append([]string{"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"}, env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = hookLeave
	err := cmd.Run()
	o := outcome{output: out.String()}
	var ended *exec.ExitError
	switch {
	case err == nil:
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		o.fault = "it did not end in its time and was killed"
	case ctx.Err() != nil:
		o.fault = "forged was stopped"
	case errors.As(err, &ended) && ended.Exited():
		o.status, o.fault = ended.ExitCode(), fmt.Sprintf("it ended with exit code %d", ended.ExitCode())
	case errors.Is(err, exec.ErrWaitDelay): // it ended well, and left something behind that holds its output
	default:
		o.fault = err.Error()
	}
	return o
}

// head keeps the beginning of what a program prints. The rest is read, so that it does not stop, and dropped.
type head struct {
	b    bytes.Buffer
	most int
}

func (h *head) Write(p []byte) (int, error) {
	h.b.Write(p[:min(len(p), h.most-h.b.Len())])
	return len(p), nil
}

func (h *head) String() string { return h.b.String() }

// sendmail hands a mail to the site's own. The recipient is an argument behind --, and no header is made of anything that could end it.
func sendmail(ctx context.Context, cfg HooksConfig, e errand, now time.Time) outcome {
	text, err := letter(cfg, e, now)
	if err != nil {
		return faulty("%v", err)
	}
	ctx, cancel := context.WithTimeout(ctx, sendmailTimeout)
	defer cancel()
	return run(ctx, []string{cfg.Sendmail, "-i", "-f", cfg.MailFrom, "--", e.hook.Target}, nil, text)
}

func letter(cfg HooksConfig, e errand, now time.Time) ([]byte, error) {
	var b bytes.Buffer
	header := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, oneLine(value)) }
	subject := []rune("[forge] " + e.text())
	header("From", cfg.MailFrom)
	header("To", e.hook.Target)
	header("Subject", mime.QEncoding.Encode("utf-8", string(subject[:min(len(subject), maxSubject)])))
	header("Date", now.Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	header("Message-ID", "<"+e.id+"@"+cfg.MailFrom[strings.LastIndex(cfg.MailFrom, "@")+1:]+">") // the same at every try: mail programs show it once
	header("Auto-Submitted", "auto-generated")
	header("MIME-Version", "1.0")
	header("Content-Type", "text/plain; charset=utf-8")
	header("Content-Transfer-Encoding", "quoted-printable")
	b.WriteString("\r\n")
	body := quotedprintable.NewWriter(&b)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(body, "%-8s %s\n", name, oneLine(value))
		}
	}
	fmt.Fprintf(body, "%s\n\n", oneLine(e.event.Message))
	line("event", string(e.event.Type))
	line("time", e.event.Time.Format(time.RFC3339))
	line("tenant", e.tenant)
	if e.event.Number > 0 {
		line("run", fmt.Sprint(e.event.Number))
	}
	line("reason", e.event.Reason)
	line("by", e.event.Actor)
	for _, k := range slices.Sorted(maps.Keys(e.event.Data)) {
		line(k, fmt.Sprint(e.event.Data[k]))
	}
	line("hook", e.hook.Name)
	err := body.Close()
	return bytes.ReplaceAll(b.Bytes(), []byte("\r\n"), []byte("\n")), err // as sendmail reads it
}
