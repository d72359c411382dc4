package daemon

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/forge-ml/forge-ml/internal/api"
)

// writable does to a run root what forged and the shims do: durable files, renames, and hard links, by which attempts are claimed.
func writable(root string) finding {
	fail := func(step string, err error) finding {
		f := finding{status: api.CheckFail, found: fmt.Sprintf("%s: %s failed: %v", root, step, err)}
		switch {
		case errors.Is(err, fs.ErrPermission):
			f.fix = fmt.Sprintf("give it to the user that runs forged (uid %d): chown %[1]d %s && chmod u+rwx %[2]s", os.Geteuid(), root)
		case errors.Is(err, fs.ErrNotExist):
			f.fix = "make the directory, or mount what belongs there: mkdir -p " + root
		case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
			f.fix = fmt.Sprintf("free space on it: du -xh --max-depth=2 %s | sort -h | tail", root)
		case errors.Is(err, syscall.EROFS):
			f.fix = fmt.Sprintf("it is mounted read-only; look at dmesg, then: mount -o remount,rw $(findmnt -n -o TARGET -T %s)", root)
		case step == "link(2)":
			f.fix = "attempts are claimed by hard links: set run_root to a filesystem that has them"
		default:
			f.fix = "look at dmesg and at mount"
		}
		return f
	}
	dir, err := os.MkdirTemp(root, ".doctor-*.tmp")
	if err != nil {
		return fail("making a directory", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	a, b, c := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "c")
	f, err := os.OpenFile(a, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fail("making a file", err)
	}
	_, err = f.Write(make([]byte, 4096))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fail("a durable write", err)
	}
	if err := os.Rename(a, b); err != nil {
		return fail("rename(2)", err)
	}
	if err := os.Link(b, c); err != nil {
		return fail("link(2)", err)
	}
	if err := os.Link(b, c); !errors.Is(err, fs.ErrExist) {
		return fail("link(2)", fmt.Errorf("a second link of the same name was not refused (%v): two could hold one claim", err))
	}
	if err := syncDir(dir); err != nil {
		return fail("syncing a directory", err)
	}
	return fine("%s takes durable writes, renames and hard links", root)
}

// trainingModules are what the built-in recipes import.
const trainingModules = "torch, transformers, trl, peft"

const importProgram = "import " + trainingModules + ", sys\n" +
	"print('python ' + sys.version.split()[0], *[m.__name__ + ' ' + m.__version__ for m in (" + trainingModules + ")], sep=', ')\n"

// pythonEnvironment imports what recipes need, as a rank would: in a cleared environment, and not where the daemon stands.
func pythonEnvironment(ctx context.Context, python string) finding {
	const fix = "contrib/python-env/install makes an environment and prints its path; set python: PATH in the cluster's configuration"
	if python == "" {
		return finding{status: api.CheckWarn, found: "no interpreter is configured: recipes that train with the Python package do not run here", fix: fix}
	}
	if st, err := os.Stat(python); err != nil || st.IsDir() || st.Mode()&0o111 == 0 {
		return finding{status: api.CheckFail, found: fmt.Sprintf("%s is not an executable file", python), fix: fix}
	}
	// It ends before its check does: what it has to say is more than that there was no answer.
	ctx, cancel := context.WithTimeout(ctx, pythonTimeout-2*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, "-I", "-c", importProgram)
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/nonexistent", "LANG=C.UTF-8", "HF_HUB_OFFLINE=1"}
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &limitedBuffer{b: &out}, &limitedBuffer{b: &errOut}
	err := cmd.Run()
	if ctx.Err() != nil {
		return finding{status: api.CheckUnknown, found: fmt.Sprintf("%s did not import %s within %s", python, trainingModules, pythonTimeout), fix: "try it by hand: " + python + ` -I -c "import torch"`}
	}
	if err != nil {
		last := strings.TrimSpace(errOut.String())
		if i := strings.LastIndexByte(last, '\n'); i >= 0 {
			last = last[i+1:]
		}
		return finding{status: api.CheckFail, found: fmt.Sprintf("%s cannot import %s: %.300s (%v)", python, trainingModules, last, err), fix: fix}
	}
	return fine("%s: %.300s", python, strings.TrimSpace(out.String()))
}

// limitedBuffer keeps the first 64 KiB; a program that prints without end fills no memory.
type limitedBuffer struct{ b *bytes.Buffer }

func (l *limitedBuffer) Write(p []byte) (int, error) {
	if room := 64<<10 - l.b.Len(); room > 0 {
		l.b.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}

// certificate finds the one among the files that ends first.
func certificate(files []string, now time.Time) finding {
	var first *x509.Certificate
	var in string
	for _, name := range files {
		text, err := readBounded(name, maxMarkerSize)
		if err != nil {
			return finding{status: api.CheckFail, found: fmt.Sprintf("%s: %v", name, err), fix: "give the file to the user that runs forged, mode 0600"}
		}
		for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
			if block.Type != "CERTIFICATE" {
				continue
			}
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return finding{status: api.CheckFail, found: fmt.Sprintf("%s: %v", name, err), fix: "put a whole certificate there"}
			}
			if first == nil || c.NotAfter.Before(first.NotAfter) {
				first, in = c, name
			}
		}
	}
	if first == nil {
		return fine("TCP is served without a certificate of forged's own")
	}
	left := first.NotAfter.Sub(now)
	f := fine("%s ends %s, in %d days; limit %d days", in, first.NotAfter.UTC().Format(time.RFC3339), int(left.Hours()/24), int(certificateWarn.Hours()/24))
	const fix = "put a newer certificate in its place, then: systemctl reload forged"
	switch {
	case left <= 0:
		return f.but(api.CheckFail, fix)
	case left < certificateWarn:
		return f.but(api.CheckWarn, fix)
	}
	return f
}
