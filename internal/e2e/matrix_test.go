//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// access is what the table below says of one operation.
type access struct {
	role   forge.Role // the least that may call it
	target string     // what its path or body names: run, key, registration, user, tenant, dataset (shared), version (of one of its own), model, cluster, node; empty: nothing
	query  string
	body   string // ID stands for what is named, NEW for a new name, DIR for a directory with data in it
	ok     []int  // answers to whoever may, about what is theirs
	open   bool   // needs no key, and looks at none
	own    bool   // members act on their own only
	first  string // a path (of the target) that is posted to before, to bring it into the right state
}

// rules is the access of every operation. An operation that is not here fails the test: whoever adds
// one decides who may call it, here, and not where it is implemented.
var rules = map[string]access{
	"version":          {role: forge.RoleViewer, ok: []int{200}},
	"whoami":           {role: forge.RoleViewer, ok: []int{200}},
	"list-nodes":       {role: forge.RoleViewer, ok: []int{200}},
	"get-node":         {role: forge.RoleViewer, target: "node", ok: []int{200}},
	"list-gpus":        {role: forge.RoleViewer, ok: []int{200}}, // of other tenants' runs: internal/daemon/gpu_view_test.go
	"get-gpu-history":  {role: forge.RoleViewer, ok: []int{404}}, // there is none
	"drain-node":       {role: forge.RoleOperator, target: "node", body: `{"reason":"a fan is loud"}`, ok: []int{200}},
	"undrain-node":     {role: forge.RoleOperator, target: "node", ok: []int{200, 412}}, // whether it is drained by now is chance
	"doctor":           {role: forge.RoleOperator, ok: []int{200}},
	"get-queue":        {role: forge.RoleViewer, ok: []int{200}},
	"list-events":      {role: forge.RoleViewer, ok: []int{200}},
	"stream-events":    {role: forge.RoleViewer, ok: []int{200}},
	"list-node-events": {role: forge.RoleViewer, target: "node", ok: []int{200}},

	"list-runs":            {role: forge.RoleViewer, ok: []int{200}},
	"list-run-rows":        {role: forge.RoleViewer, ok: []int{200}},
	"get-run":              {role: forge.RoleViewer, target: "run", ok: []int{200}},
	"why-run":              {role: forge.RoleViewer, target: "run", ok: []int{200}},
	"what-if":              {role: forge.RoleMember, query: "policy=fifo", ok: []int{200}},
	"get-run-log":          {role: forge.RoleViewer, target: "run", ok: []int{200}},
	"get-run-metrics":      {role: forge.RoleViewer, target: "run", ok: []int{200}},
	"add-run-metrics":      {role: forge.RoleMember, target: "run", body: `{"attempt":1,"points":[{"step":1,"values":{"loss":1}}]}`, ok: []int{404}, own: true}, // it has no attempt yet
	"get-run-samples":      {role: forge.RoleViewer, target: "run", ok: []int{200}},
	"list-run-checkpoints": {role: forge.RoleViewer, target: "run", ok: []int{200}},
	"get-run-bundle":       {role: forge.RoleViewer, target: "run", ok: []int{200}},
	"get-run-source":       {role: forge.RoleMember, target: "run", ok: []int{412}}, // it has none
	"list-run-events":      {role: forge.RoleViewer, target: "run", ok: []int{200}},
	"submit-run":           {role: forge.RoleMember, target: "run", body: `{"recipe":"probe","after":["ID"]}`, ok: []int{201}},
	"submit-pipeline":      {role: forge.RoleMember, target: "run", body: `{"name":"chain","steps":[{"step":"one","run":{"recipe":"probe","after":["ID"]}},{"step":"two","run":{"recipe":"probe","after":["step:one"]}}]}`, ok: []int{201}},
	"estimate-run":         {role: forge.RoleMember, body: `{"recipe":"probe"}`, ok: []int{412}}, // a program that is not forge's own
	"cancel-run":           {role: forge.RoleMember, target: "run", ok: []int{200}, own: true},
	"interrupt-run":        {role: forge.RoleMember, target: "run", body: `{"as":"timeout"}`, ok: []int{412}, own: true}, // it does not run
	"get-run-seat":         {role: forge.RoleMember, target: "run", ok: []int{412}, own: true},
	"retry-run":            {role: forge.RoleMember, target: "run", ok: []int{201}, own: true, first: "/cancel"},
	"hold-run":             {role: forge.RoleMember, target: "run", ok: []int{200}, own: true},
	"set-run-priority":     {role: forge.RoleMember, target: "run", body: `{"priority":40}`, ok: []int{200}, own: true},
	"get-run-priority":     {role: forge.RoleMember, target: "run", query: "priority=40", ok: []int{200}, own: true},
	"release-run":          {role: forge.RoleMember, target: "run", ok: []int{200}, own: true, first: "/hold"},

	"list-recipes": {role: forge.RoleViewer, ok: []int{200}},
	"get-recipe":   {role: forge.RoleViewer, target: "recipe", ok: []int{200}},

	"list-costs": {role: forge.RoleViewer, query: "by=run", ok: []int{200}},

	"list-suites":       {role: forge.RoleViewer, ok: []int{200}},
	"get-suite":         {role: forge.RoleViewer, target: "suite", ok: []int{200}},
	"list-evals":        {role: forge.RoleViewer, ok: []int{200}},
	"get-eval":          {role: forge.RoleViewer, target: "run", ok: []int{404}}, // it has found nothing; of others: internal/daemon/eval_test.go
	"list-eval-samples": {role: forge.RoleViewer, target: "run", query: "task=x", ok: []int{404}},
	"compare-evals":     {role: forge.RoleViewer, target: "run", query: "baseline=1", ok: []int{404}},         // of whole ones: internal/daemon/eval_compare_test.go
	"import-eval":       {role: forge.RoleMember, query: "sha256=" + strings.Repeat("0", 64), ok: []int{422}}, // nothing is sent; of whole ones: internal/daemon/eval_compare_test.go

	"list-schedules":  {role: forge.RoleViewer, ok: []int{200}},
	"get-schedule":    {role: forge.RoleViewer, target: "schedule", ok: []int{200}},
	"add-schedule":    {role: forge.RoleMember, body: `{"name":"NEW","cron":"0 0 1 1 *","run":{"recipe":"probe"}}`, ok: []int{201}},
	"remove-schedule": {role: forge.RoleMember, target: "schedule", ok: []int{200}, own: true},
	"pause-schedule":  {role: forge.RoleMember, target: "schedule", ok: []int{200}, own: true},
	"resume-schedule": {role: forge.RoleMember, target: "schedule", ok: []int{200}, own: true, first: "/pause"},
	"run-schedule":    {role: forge.RoleMember, target: "schedule", ok: []int{200}, own: true},
	"clear-schedule":  {role: forge.RoleAdmin, target: "schedule", body: `{"reason":"looked at"}`, ok: []int{412}}, // it has found nothing

	"list-datasets":       {role: forge.RoleViewer, ok: []int{200}},
	"get-dataset":         {role: forge.RoleViewer, target: "dataset", ok: []int{200}},
	"scan-dataset":        {role: forge.RoleMember, target: "dataset", body: `{"name":"NEW","paths":["DIR/NEW.jsonl"],"parents":["ID@1"],"dry_run":true}`, ok: []int{201}},
	"add-dataset":         {role: forge.RoleMember, target: "dataset", body: `{"name":"NEW","paths":["DIR/NEW.jsonl"],"parents":["ID@1"]}`, ok: []int{201}},
	"get-dataset-version": {role: forge.RoleViewer, target: "dataset", ok: []int{200}},
	"edit-dataset":        {role: forge.RoleMember, target: "version", body: `{"license":"MIT"}`, ok: []int{200}, own: true},
	"delete-dataset":      {role: forge.RoleAdmin, target: "version", ok: []int{200}},
	"waive-dataset":       {role: forge.RoleAdmin, target: "dataset", body: `{"reason":"made up"}`, ok: []int{412}}, // nothing was found in it
	"verify-dataset":      {role: forge.RoleMember, target: "dataset", ok: []int{200}},
	"get-dataset-lineage": {role: forge.RoleViewer, target: "dataset", ok: []int{200}},
	"get-dataset-impact":  {role: forge.RoleViewer, query: "digest=" + strings.Repeat("0", 64), ok: []int{200}}, // of others: store/dataset_test.go
	"add-dataset-file":    {role: forge.RoleMember, ok: []int{415, 422}},                                        // nothing is sent
	"get-dataset-file":    {role: forge.RoleMember, target: "dataset", ok: []int{412}},                          // its files are no copy of forge's
	"add-dataset-rows":    {role: forge.RoleMember, target: "version", query: "sha256=" + strings.Repeat("0", 64), ok: []int{412, 415, 422}, own: true},
	"list-models":         {role: forge.RoleViewer, ok: []int{200}},
	"get-model":           {role: forge.RoleViewer, target: "model", ok: []int{200}},
	"import-model":        {role: forge.RoleMember, body: `{"name":"NEW","path":"DIR"}`, ok: []int{422}}, // there are no weights in it
	"verify-model":        {role: forge.RoleMember, target: "model", ok: []int{200}},
	"plan-gc":             {role: forge.RoleAdmin, ok: []int{200}},
	"run-gc":              {role: forge.RoleAdmin, body: `{}`, ok: []int{200, 409}},                                   // another one may be under way
	"register-model":      {role: forge.RoleMember, target: "run", body: `{"name":"NEW","run":"ID"}`, ok: []int{412}}, // it has not completed

	"promote-model":       {role: forge.RoleMember, target: "own model", body: `{"to":"candidate"}`, ok: []int{412}, own: true}, // its gate has no evals of it
	"archive-model":       {role: forge.RoleMember, target: "own model", body: `{"reason":"x"}`, ok: []int{200}, own: true},
	"rollback-model":      {role: forge.RoleAdmin, target: "model", body: `{"reason":"x"}`, ok: []int{412}}, // nothing was in production before
	"get-model-history":   {role: forge.RoleViewer, target: "model", ok: []int{200}},
	"check-model-history": {role: forge.RoleViewer, target: "model", ok: []int{200}},
	"list-model-aliases":  {role: forge.RoleViewer, target: "model", ok: []int{200}},
	"set-model-alias":     {role: forge.RoleMember, target: "own model", body: `{"alias":"best"}`, ok: []int{200}, own: true},
	"remove-model-alias":  {role: forge.RoleMember, target: "own model", ok: []int{404}}, // it has none; of colleagues: internal/daemon/model_stage_test.go
	"list-gates":          {role: forge.RoleViewer, ok: []int{200}},
	"get-gate":            {role: forge.RoleViewer, target: "model", ok: []int{200}},

	"add-snapshot": {role: forge.RoleMember, query: "sha256=" + strings.Repeat("0", 64), ok: []int{422}}, // nothing is sent

	"get-progress": {role: forge.RoleMember, target: "registration", ok: []int{404}}, // none is under way; of others: internal/daemon/registration_test.go

	"list-keys":  {role: forge.RoleViewer, ok: []int{200}},
	"get-key":    {role: forge.RoleViewer, target: "key", ok: []int{200}},
	"create-key": {role: forge.RoleViewer, body: `{}`, ok: []int{201}},
	"rotate-key": {role: forge.RoleViewer, target: "key", ok: []int{201}},
	"revoke-key": {role: forge.RoleViewer, target: "key", ok: []int{200}},

	"login-munge": {open: true, body: `{"credential":"MUNGE:x:"}`, ok: []int{412}}, // it is not turned on

	"list-users":   {role: forge.RoleViewer, ok: []int{200}},
	"get-user":     {role: forge.RoleViewer, target: "self", ok: []int{200}},
	"create-user":  {role: forge.RoleAdmin, body: `{"name":"NEW"}`, ok: []int{201}},
	"update-user":  {role: forge.RoleAdmin, target: "user", body: `{"max_priority":10}`, ok: []int{200}},
	"disable-user": {role: forge.RoleAdmin, target: "user", ok: []int{200}},
	"enable-user":  {role: forge.RoleAdmin, target: "user", ok: []int{200}, first: "/disable"},

	"list-tenants":  {role: forge.RoleViewer, ok: []int{200}},
	"get-tenant":    {role: forge.RoleViewer, target: "tenant", ok: []int{200}},
	"update-tenant": {role: forge.RoleOperator, target: "tenant", body: `{"weight":2,"max_gpus":8}`, ok: []int{200}},
	"create-tenant": {role: forge.RoleOperator, body: `{"name":"NEW"}`, ok: []int{201}},

	"list-hooks":           {role: forge.RoleAdmin, ok: []int{200}},
	"create-hook":          {role: forge.RoleAdmin, body: `{"name":"NEW","on":["stage"],"url":"http://127.0.0.1:9/x"}`, ok: []int{201}},
	"get-hook":             {role: forge.RoleAdmin, target: "hook", ok: []int{200}},
	"remove-hook":          {role: forge.RoleAdmin, target: "hook", ok: []int{200}},
	"pause-hook":           {role: forge.RoleAdmin, target: "hook", ok: []int{200}},
	"resume-hook":          {role: forge.RoleAdmin, target: "hook", ok: []int{200}},
	"test-hook":            {role: forge.RoleAdmin, target: "hook", ok: []int{200}}, // that nobody listens there is an answer
	"list-hook-deliveries": {role: forge.RoleAdmin, target: "hook", ok: []int{200}},

	"list-clusters":  {role: forge.RoleViewer, ok: []int{200}},
	"check-cluster":  {role: forge.RoleOperator, target: "cluster", ok: []int{200}},
	"resume-cluster": {role: forge.RoleOperator, target: "cluster", ok: []int{412}}, // it is not paused
}

// who is somebody with a key.
type who struct {
	name, tenant, key string
	role              forge.Role
}

// matrix is a site with two tenants and users of each role in both.
type matrix struct {
	t    *testing.T
	site *forgedtest.Site
	url  string
	dir  string
	made int
	from int // last byte of the address that requests come from
	op   who
	in   map[string]map[forge.Role]who // by tenant id
	a, b string                        // the tenants' ids
	data map[string]string             // dataset by tenant
	base map[string]string             // model by tenant
}

func TestWhoMayDoWhat(t *testing.T) {
	ctx, s := openFor(t, 4*time.Minute, func(o *forgedtest.Options) {
		o.CPUSlots, o.Extra = 1, "limits: {requests_per_second: 0}\nhooks: {allow_hosts: [\"http://127.0.0.1:9\"]}\n" // it is not the counting that is looked at
	})
	url, err := s.TCP()
	must(t, err)
	m := &matrix{t: t, site: s, url: url, dir: t.TempDir(), in: map[string]map[forge.Role]who{}, data: map[string]string{}, base: map[string]string{}}
	submit(t, ctx, s, "--set", "steps=1000000", "--set", "step_ms=1000", "--priority", "100") // keeps the one slot, so that all others wait
	m.setUp(ctx)
	ops := m.operations(ctx)
	for id, op := range ops {
		rule, ok := rules[id]
		if !ok {
			t.Errorf("%s has no row: who may call it?", id)
			continue
		}
		if op.role != rule.role {
			t.Errorf("%s says that it needs %s, the table says %s", id, op.role, rule.role)
		}
		m.from++
		t.Run(id, func(t *testing.T) {
			m := *m
			m.t = t
			if rule.open {
				m.byAnybody(ctx, op, rule)
				return
			}
			m.withoutAValidKey(ctx, op)
			m.byRole(ctx, op, rule)
			m.namingATenant(ctx, op, rule)
		})
	}
}

type apiOp struct {
	id, method, path string
	role             forge.Role
}

// operations reads them from what the daemon serves.
func (m *matrix) operations(ctx context.Context) map[string]apiOp {
	_, body := m.call(ctx, "GET", "/openapi.json", who{}, "")
	var doc struct {
		Paths map[string]map[string]struct {
			ID   string     `json:"operationId"`
			Role forge.Role `json:"x-forge-role"`
		}
	}
	must(m.t, json.Unmarshal([]byte(body), &doc))
	out := map[string]apiOp{}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			if strings.HasPrefix(path, "/v1/") {
				out[op.ID] = apiOp{id: op.ID, method: strings.ToUpper(method), path: path, role: op.Role}
			}
		}
	}
	if len(out) < 40 {
		m.t.Fatalf("only %d operations are described", len(out))
	}
	return out
}

// call makes one request and gives back status and body, without what differs by request.
func (m *matrix) call(ctx context.Context, method, path string, w who, body string, headers ...string) (int, string) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, m.url+path, strings.NewReader(body))
	must(m.t, err)
	if w.key != "" {
		r.Header.Set(api.HeaderKey, w.key)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	// Each operation is tried from an address of its own: guesses are counted by address.
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+m.from))}}
	hc := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: d.DialContext}}
	resp, err := hc.Do(r)
	must(m.t, err)
	defer resp.Body.Close()
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return resp.StatusCode, "" // it never ends
	}
	b, err := io.ReadAll(resp.Body)
	must(m.t, err)
	return resp.StatusCode, string(b)
}

// do is a call that must succeed; it fills in what the answer has of v.
func (m *matrix) do(ctx context.Context, method, path string, w who, body string, v any, headers ...string) {
	m.t.Helper()
	status, text := m.call(ctx, method, path, w, body, headers...)
	if status/100 != 2 {
		m.t.Fatalf("%s %s by %s: %d %s", method, path, w.name, status, text)
	}
	if v != nil {
		must(m.t, json.Unmarshal([]byte(text), v))
	}
}

func (m *matrix) setUp(ctx context.Context) {
	m.op = who{name: "operator", key: m.site.Key, role: forge.RoleOperator}
	var me api.WhoAmI
	m.do(ctx, "GET", "/v1/whoami", m.op, "", &me)
	m.a = string(me.Tenant.ID)
	m.op.tenant = m.a
	var other forge.Tenant
	m.do(ctx, "POST", "/v1/tenants", m.op, `{"name":"other"}`, &other)
	m.b = string(other.ID)
	for _, tenant := range []string{m.a, m.b} {
		in := []string{api.HeaderTenant, tenant}
		m.in[tenant] = map[forge.Role]who{}
		for _, role := range []forge.Role{forge.RoleViewer, forge.RoleMember, forge.RoleAdmin} {
			name := string(role) + "-" + strings.ToLower(tenant[len(tenant)-6:])
			m.do(ctx, "POST", "/v1/users", m.op, fmt.Sprintf(`{"name":%q,"role":%q,"max_priority":100}`, name, role), nil, in...)
			var k api.CreatedKey
			m.do(ctx, "POST", "/v1/keys", m.op, fmt.Sprintf(`{"user":%q}`, name), &k, in...)
			m.in[tenant][role] = who{name: name, tenant: tenant, key: k.Secret, role: role}
		}
		w := m.in[tenant][forge.RoleMember]
		m.data[tenant] = m.name()
		write(m.t, filepath.Join(m.dir, m.data[tenant]+".jsonl"), fmt.Sprintf("{\"text\":\"rows of %s\"}\n", tenant))
		m.do(ctx, "POST", "/v1/datasets", w, fmt.Sprintf(`{"name":%q,"paths":[%q]}`, m.data[tenant], filepath.Join(m.dir, m.data[tenant]+".jsonl")), nil)
		m.base[tenant] = m.model(ctx, w)
	}
}

func (m *matrix) name() string {
	m.made++
	return fmt.Sprintf("n%d-%d", m.from, m.made)
}

// model imports a base model: the smallest that there is.
func (m *matrix) model(ctx context.Context, w who) string {
	name := m.name()
	dir := filepath.Join(m.dir, name)
	header := `{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`
	write(m.t, filepath.Join(dir, "model.safetensors"), string([]byte{byte(len(header)), 0, 0, 0, 0, 0, 0, 0})+header+"\x00\x00\x00\x00")
	write(m.t, filepath.Join(dir, "config.json"), `{"model_type":"llama","architectures":["LlamaForCausalLM"],"hidden_size":1,"vocab_size":1}`)
	write(m.t, filepath.Join(dir, "tokenizer.json"), `{}`)
	m.do(ctx, "POST", "/v1/models/import", w, fmt.Sprintf(`{"name":%q,"path":%q}`, name, dir), nil)
	return name
}

// thing makes something to act on that is w's, in w's tenant, and names it.
func (m *matrix) thing(ctx context.Context, kind string, w who) string {
	// What a viewer may not make somebody makes for it; that it may not act on it is what is looked at.
	maker := w
	if w.role == forge.RoleViewer {
		maker = m.in[w.tenant][forge.RoleAdmin]
	}
	switch kind {
	case "run":
		var r api.Submitted
		m.do(ctx, "POST", "/v1/runs", maker, `{"recipe":"probe"}`, &r)
		return string(r.Run.ID)
	case "schedule":
		name := m.name()
		m.do(ctx, "POST", "/v1/schedules", maker, fmt.Sprintf(`{"name":%q,"cron":"0 0 1 1 *","run":{"recipe":"probe"}}`, name), nil)
		return name
	case "key":
		var k api.CreatedKey
		m.do(ctx, "POST", "/v1/keys", w, `{}`, &k)
		return string(k.ID)
	case "user":
		var u forge.User
		m.do(ctx, "POST", "/v1/users", m.op, fmt.Sprintf(`{"name":%q}`, m.name()), &u, api.HeaderTenant, w.tenant)
		return string(u.ID)
	case "self":
		var me api.WhoAmI
		m.do(ctx, "GET", "/v1/whoami", w, "", &me)
		return me.User
	case "tenant":
		return w.tenant
	case "dataset":
		return m.data[w.tenant]
	case "version": // the maker's own
		name := m.name()
		write(m.t, filepath.Join(m.dir, name+".jsonl"), fmt.Sprintf("{\"text\":%q}\n", name))
		m.do(ctx, "POST", "/v1/datasets", maker, fmt.Sprintf(`{"name":%q,"paths":[%q]}`, name, filepath.Join(m.dir, name+".jsonl")), nil)
		return name
	case "model":
		return m.base[w.tenant]
	case "own model":
		return m.model(ctx, maker)
	case "registration":
		return m.name()
	case "hook":
		if w.role == forge.RoleMember {
			maker = m.in[w.tenant][forge.RoleAdmin]
		}
		var h forge.Hook
		m.do(ctx, "POST", "/v1/hooks", maker, fmt.Sprintf(`{"name":%q,"on":["stage"],"url":"http://127.0.0.1:9/x"}`, m.name()), &h)
		return string(h.ID)
	case "cluster":
		return "local"
	case "suite":
		return "default-offline"
	case "recipe":
		return "probe"
	case "node":
		var nodes api.List[api.NodeView]
		m.do(ctx, "GET", "/v1/nodes", m.op, "", &nodes)
		return string(nodes.Items[0].Name)
	}
	return ""
}

// absent is a name of the kind that is nobody's.
func absent(kind string) string {
	switch kind {
	case "dataset", "version", "model", "own model", "self", "cluster", "recipe", "suite", "schedule":
		return "nobody-s"
	}
	return "01ZZZZZZZZZZZZZZZZZZZZZZZZ"
}

// send calls an operation about something.
func (m *matrix) send(ctx context.Context, op apiOp, rule access, w who, id string, headers ...string) (int, string) {
	path := op.path
	for _, p := range []string{"{run}", "{key}", "{user}", "{tenant}", "{cluster}", "{name}", "{node}", "{schedule}", "{hook}"} {
		path = strings.ReplaceAll(path, p, id)
	}
	path = strings.NewReplacer("{version}", "latest", "{alias}", "none", "{uuid}", "GPU-none", "{sha256}", strings.Repeat("0", 64)).Replace(path)
	if rule.query != "" {
		path += "?" + rule.query
	}
	name := m.name()
	if strings.Contains(rule.body, "DIR") {
		write(m.t, filepath.Join(m.dir, name+".jsonl"), fmt.Sprintf("{\"text\":%q}\n", name))
	}
	body := strings.NewReplacer("ID", id, "NEW", name, "DIR", m.dir).Replace(rule.body)
	status, text := m.call(ctx, op.method, path, w, body, headers...)
	if id != "" && status >= 400 {
		text = strings.ReplaceAll(text, id, "ID") // what was asked for may be said back
	}
	return status, text
}

func (m *matrix) withoutAValidKey(ctx context.Context, op apiOp) {
	m.t.Helper()
	admin := m.in[m.a][forge.RoleAdmin]
	var revoked, brief, disabled api.CreatedKey
	m.do(ctx, "POST", "/v1/keys", admin, `{}`, &revoked)
	m.do(ctx, "POST", "/v1/keys/"+string(revoked.ID)+"/revoke", admin, "", nil)
	m.do(ctx, "POST", "/v1/keys", admin, `{"expires_in":"1ms"}`, &brief)
	leaver := m.name()
	m.do(ctx, "POST", "/v1/users", admin, fmt.Sprintf(`{"name":%q}`, leaver), nil)
	m.do(ctx, "POST", "/v1/keys", admin, fmt.Sprintf(`{"user":%q}`, leaver), &disabled)
	m.do(ctx, "POST", "/v1/users/"+leaver+"/disable", admin, "", nil)
	first := ""
	for name, key := range map[string]string{"no key": "", "a bad key": "fk_guessed", "a revoked key": revoked.Secret, "an expired key": brief.Secret, "a disabled user's key": disabled.Secret} {
		for _, id := range []string{"77777", absent("run")} {
			status, body := m.send(ctx, op, access{}, who{key: key}, id)
			if status != http.StatusUnauthorized {
				m.t.Errorf("%s: %d %s", name, status, body)
			}
			if first == "" {
				first = body
			}
			if body != first {
				m.t.Errorf("%s is told apart: %s and %s", name, body, first)
			}
		}
	}
}

// byAnybody: an operation without a key answers everyone alike.
func (m *matrix) byAnybody(ctx context.Context, op apiOp, rule access) {
	m.t.Helper()
	first := ""
	for _, w := range []who{{name: "nobody"}, {name: "a guesser", key: "fk_guessed"}, m.in[m.a][forge.RoleMember], m.in[m.b][forge.RoleAdmin], m.op} {
		status, body := m.send(ctx, op, rule, w, "")
		if !slices.Contains(rule.ok, status) {
			m.t.Errorf("%s: %d %s", w.name, status, body)
		}
		if first == "" {
			first = body
		}
		if body != first {
			m.t.Errorf("%s is told apart: %s and %s", w.name, body, first)
		}
		if status, body := m.send(ctx, op, rule, w, "", api.HeaderTenant, m.b); status != http.StatusForbidden {
			m.t.Errorf("%s names a tenant: %d %s", w.name, status, body)
		}
	}
}

// byRole tries every role on what is its own, on what is another tenant's and on what is not there.
func (m *matrix) byRole(ctx context.Context, op apiOp, rule access) {
	m.t.Helper()
	callers := []who{m.in[m.a][forge.RoleViewer], m.in[m.a][forge.RoleMember], m.in[m.a][forge.RoleAdmin], m.op, m.in[m.b][forge.RoleMember]}
	for _, w := range callers {
		id := m.thing(ctx, rule.target, w)
		if rule.first != "" {
			m.do(ctx, "POST", path(op, id)+rule.first, m.in[w.tenant][forge.RoleAdmin], "", nil)
		}
		status, body := m.send(ctx, op, rule, w, id)
		switch may := w.role.Includes(rule.role); {
		case may && !slices.Contains(rule.ok, status):
			m.t.Errorf("%s, own: %d %s", w.name, status, body)
		case !may && status != http.StatusForbidden:
			m.t.Errorf("%s, own: %d %s", w.name, status, body)
		}
		m.silentAboutOthers(w, body)
		if rule.own && w.role == forge.RoleMember {
			colleague := m.thing(ctx, rule.target, m.in[w.tenant][forge.RoleAdmin])
			if status, body := m.send(ctx, op, rule, w, colleague); status != http.StatusForbidden {
				m.t.Errorf("%s, a colleague's: %d %s", w.name, status, body)
			}
		}
		if slices.Contains([]string{"", "cluster", "node", "recipe", "suite"}, rule.target) { // the site's, and nobody's
			continue
		}
		away := m.in[m.b][forge.RoleAdmin]
		if w.tenant == m.b {
			away = m.in[m.a][forge.RoleAdmin]
		}
		theirs := m.thing(ctx, rule.target, away)
		status, body = m.send(ctx, op, rule, w, theirs)
		nothing, nobody := m.send(ctx, op, rule, w, absent(rule.target))
		if rule.target == "tenant" && w.role == forge.RoleOperator {
			if status != http.StatusOK || nothing != http.StatusNotFound {
				m.t.Errorf("%s, another tenant: %d, none: %d", w.name, status, nothing)
			}
			continue // operators see all tenants
		}
		want := http.StatusNotFound
		if strings.Contains(rule.body, "ID") {
			want = http.StatusUnprocessableEntity // a field of the body is at fault
		}
		if !w.role.Includes(rule.role) {
			want = http.StatusForbidden
		}
		if status != want {
			m.t.Errorf("%s, another tenant's: %d %s", w.name, status, body)
		}
		if status != nothing || body != nobody {
			m.t.Errorf("%s: another tenant's and none are told apart:\n%d %s\n%d %s", w.name, status, body, nothing, nobody)
		}
	}
}

func path(op apiOp, id string) string {
	p, _, _ := strings.Cut(op.path, "/{")
	return p + "/" + id
}

// silentAboutOthers: no answer has a name or an id of the other tenant.
func (m *matrix) silentAboutOthers(w who, body string) {
	m.t.Helper()
	if w.role == forge.RoleOperator { // sees tenants; of what is in them it sees nothing without naming one
		return
	}
	other := m.b
	if w.tenant == m.b {
		other = m.a
	}
	secrets := []string{other, m.data[other], m.base[other]}
	for _, x := range m.in[other] {
		secrets = append(secrets, x.name)
	}
	for _, x := range secrets {
		if strings.Contains(body, `"`+x+`"`) {
			m.t.Errorf("%s is shown %s: %s", w.name, x, body)
		}
	}
}

// namingATenant: X-Tenant-ID is forbidden to all but operators, whatever it names.
func (m *matrix) namingATenant(ctx context.Context, op apiOp, rule access) {
	m.t.Helper()
	first := ""
	for _, role := range []forge.Role{forge.RoleViewer, forge.RoleMember, forge.RoleAdmin} {
		for _, tenant := range []string{m.a, m.b, "other", "nowhere"} {
			status, body := m.send(ctx, op, rule, m.in[m.a][role], absent(rule.target), api.HeaderTenant, tenant)
			if status != http.StatusForbidden {
				m.t.Errorf("%s names %s: %d %s", role, tenant, status, body)
			}
			if first == "" {
				first = body
			}
			if body != first {
				m.t.Errorf("%s names %s, and is told whether it is there: %s and %s", role, tenant, body, first)
			}
		}
	}
	if status, body := m.send(ctx, op, rule, m.op, absent(rule.target), api.HeaderTenant, "nowhere"); status != http.StatusNotFound {
		m.t.Errorf("the operator names a tenant that is not there: %d %s", status, body)
	}
	visitor := m.op
	visitor.tenant = m.b
	if rule.target == "" && op.id != "create-key" { // a visitor has no key of its own there
		if status, body := m.send(ctx, op, rule, visitor, "", api.HeaderTenant, m.b); !slices.Contains(rule.ok, status) {
			m.t.Errorf("the operator in the other tenant: %d %s", status, body)
		}
	} else if rule.target == "run" && rule.first == "" {
		id := m.thing(ctx, rule.target, m.in[m.b][forge.RoleMember])
		if status, body := m.send(ctx, op, rule, visitor, id, api.HeaderTenant, m.b); !slices.Contains(rule.ok, status) {
			m.t.Errorf("the operator in the other tenant, on what is there: %d %s", status, body)
		}
	}
}
