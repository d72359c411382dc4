package server

import (
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/forge-ml/forge-ml/internal/api"
)

// What the layers around the operations read and answer stands in no handler's types; it is
// described here.

func tenantParam() *huma.Param {
	longest := maxTenantHeader
	return &huma.Param{Name: api.HeaderTenant, In: "header", Description: "Name or id of the tenant to act in. For operators; to anyone else it is forbidden",
		Schema: &huma.Schema{Type: huma.TypeString, MaxLength: &longest}}
}

func onceParam() *huma.Param {
	least, longest := 1, maxOnce
	return &huma.Param{Name: api.HeaderOnce, In: "header",
		Description: "Makes the request safe to repeat: a second one with the same key and the same content is answered with what the first one did, and another content under the same key is a conflict",
		Schema:      &huma.Schema{Type: huma.TypeString, MinLength: &least, MaxLength: &longest, Pattern: "^[ -~]+$"}}
}

func header(text, kind string) *huma.Param {
	return &huma.Param{Description: text, Schema: &huma.Schema{Type: kind}}
}

// follow are the links between operations: what one answers names what the others take.
var follow = []struct {
	from, value, param string
	to                 []string
}{
	{"submit-run", "/run/id", "run", []string{"get-run", "why-run", "cancel-run", "hold-run", "release-run", "retry-run", "get-run-log", "get-run-metrics", "add-run-metrics", "list-run-checkpoints", "list-run-events"}},
	{"retry-run", "/run/id", "run", []string{"get-run", "cancel-run"}},
	{"create-key", "/id", "key", []string{"get-key", "rotate-key", "revoke-key"}},
	{"create-user", "/id", "user", []string{"get-user", "update-user", "disable-user", "enable-user"}},
	{"create-tenant", "/id", "tenant", []string{"get-tenant"}},
	{"add-dataset", "/name", "name", []string{"get-dataset"}},
	{"import-model", "/name", "name", []string{"get-model"}},
	{"list-clusters", "/items/0/name", "cluster", []string{"resume-cluster"}},
}

// named are the bodies whose name is one that forge.CheckName accepts.
var named = []string{"CreateTenantRequest", "CreateUserRequest", "AddDatasetRequest", "ImportModelRequest", "RegisterModelRequest"}

const namePattern = "^[a-z0-9][a-z0-9._-]{0,63}$"

// finish adds to the description what huma cannot know.
func finish(o *huma.OpenAPI) {
	byID := map[string]*huma.Operation{}
	for _, item := range o.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Patch, item.Put, item.Delete} {
			if op == nil {
				continue
			}
			byID[op.OperationID] = op
			for status, r := range op.Responses {
				if r.Headers == nil {
					r.Headers = map[string]*huma.Param{}
				}
				r.Headers[api.HeaderRequestID] = header("Names the request in forged's log", huma.TypeString)
				switch code, _ := strconv.Atoi(status); {
				case code == 401:
					r.Headers["WWW-Authenticate"] = header("Which header the key belongs into", huma.TypeString)
				case code == 429, code == 503 && op.OperationID != "readyz":
					r.Headers["Retry-After"] = header("Seconds to wait", huma.TypeInteger)
				case code/100 == 2 && takesOnce(op):
					r.Headers[api.HeaderReplayed] = header("true when an earlier request with the same Idempotency-Key did it; absent otherwise", huma.TypeString)
				}
			}
		}
	}
	for _, name := range named {
		// Described and not enforced here: the rooms say what is wrong with a name better than a pattern does.
		if s := o.Components.Schemas.Map()[name]; s != nil {
			s.Properties["name"].Pattern = namePattern
		}
	}
	for _, l := range follow {
		for _, r := range success(byID[l.from]) {
			if r.Links == nil {
				r.Links = map[string]*huma.Link{}
			}
			for _, to := range l.to {
				r.Links[to] = &huma.Link{OperationID: to, Parameters: map[string]any{l.param: "$response.body#" + l.value}}
			}
		}
	}
}

func takesOnce(op *huma.Operation) bool {
	for _, p := range op.Parameters {
		if p.Name == api.HeaderOnce {
			return true
		}
	}
	return false
}

func success(op *huma.Operation) []*huma.Response {
	var out []*huma.Response
	for status, r := range op.Responses {
		if status[0] == '2' {
			out = append(out, r)
		}
	}
	return out
}
