package daemon

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/store"
)

const (
	hookSecretFile   = "hooks.secret" // from which the secrets of webhooks are made
	hookSecretPrefix = "forge_hook_"  // lets secret scanners and people recognise one
)

// signer has the secrets of webhooks. None is stored: each is made of the hook's id and one file of mode 0600, so that the tables, and whoever reads
// them, hold nothing that signs.
type signer struct{ root []byte }

func newSigner(stateDir string) (signer, error) {
	root, err := reportSecret(filepath.Join(stateDir, hookSecretFile))
	if err != nil {
		return signer{}, fmt.Errorf("%s: %w", hookSecretFile, err)
	}
	return signer{root}, nil
}

// secret is what the receiver of a webhook knows it by.
func (s signer) secret(hook forge.HookID) string {
	h := hmac.New(sha256.New, s.root)
	_, _ = io.WriteString(h, "webhook 1 "+string(hook))
	return hookSecretPrefix + hex.EncodeToString(h.Sum(nil))
}

// sign is over the time and the body: what was listened to once cannot be played again later.
func (s signer) sign(hook forge.HookID, at time.Time, body []byte) (timestamp, signature string) {
	timestamp = strconv.FormatInt(at.Unix(), 10)
	h := hmac.New(sha256.New, []byte(s.secret(hook)))
	_, _ = io.WriteString(h, timestamp+".")
	_, _ = h.Write(body)
	return timestamp, "v1=" + hex.EncodeToString(h.Sum(nil))
}

// errand is one delivery with all that its way needs.
type errand struct {
	hook   forge.Hook
	tenant string // name; empty: the site's
	id     string
	event  forge.Event
}

// body is the JSON that hooks get, the same at every try.
func (e errand) body() ([]byte, error) {
	return json.Marshal(api.HookBody{ID: e.id, Hook: e.hook.Name, Tenant: e.tenant, Text: e.text(), Event: e.event})
}

// text is one line for people; chat systems show it.
func (e errand) text() string {
	text := "forge"
	if e.tenant != "" {
		text += " (" + e.tenant + ")"
	}
	return oneLine(text + ": " + e.event.Message)
}

// outcome is how a try went.
type outcome struct {
	status int           // HTTP's, or the exit code
	fault  string        // empty: it was taken
	output string        // of a program
	refuse bool          // whoever was asked said no, and will again
	after  time.Duration // it asked for so much time
}

func faulty(format string, args ...any) outcome { return outcome{fault: fmt.Sprintf(format, args...)} }

// send makes one try. What the configuration does not allow any more is not sent.
func (h *herald) send(ctx context.Context, e errand) outcome {
	cfg := h.config()
	body, err := e.body()
	if err != nil {
		return faulty("the event has no JSON: %v", err)
	}
	switch e.hook.Kind {
	case forge.HookWebhook:
		return h.post(ctx, cfg, e, body)
	case forge.HookCommand:
		cmd, err := cfg.checkCommand(e.hook.Target, e.tenant, e.hook.Site)
		if err != nil {
			return faulty("%v", err)
		}
		return command(ctx, cmd, e, body)
	case forge.HookMail:
		if err := cfg.checkMail(e.hook.Target); err != nil {
			return faulty("%v", err)
		}
		return sendmail(ctx, cfg, e, time.Now())
	}
	return faulty("a hook of the kind %q is not known", e.hook.Kind)
}

// next is when to try again after a try that failed, zero for never. Waits double up to an hour, with a quarter of chance on either side, so that
// receivers which come back are not met by everybody at once.
func (h *herald) next(now time.Time, d forge.HookDelivery, o outcome) time.Time {
	tries := d.Tries + 1
	if o.refuse && tries >= h.times.refusals || now.Sub(d.MadeAt) >= h.times.giveUp {
		return time.Time{}
	}
	wait := h.times.backoffMax
	if shift := tries - 1; shift < 30 {
		wait = min(wait, h.times.backoffMin<<shift)
	}
	wait = max(time.Duration(float64(wait)*(0.75+0.5*h.chance())), min(o.after, h.times.backoffMax))
	return now.Add(wait)
}

func (h *herald) tried(began, now time.Time, d forge.HookDelivery, o outcome) store.Tried {
	t := store.Tried{At: began, Took: now.Sub(began), Status: o.status, Error: o.fault, Output: o.output}
	if o.fault != "" {
		t.NextAt = h.next(now, d, o)
	}
	return t
}
