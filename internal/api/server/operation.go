package server

import (
	"context"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// spec is an operation in short; operation makes huma's of it.
type spec struct {
	id, method, path, tag string
	summary, doc          string
	created               bool         // answers 201
	errors                []forge.Kind // besides unauthorized, forbidden, unavailable and internal, which every operation may answer
	responses             map[string]*huma.Response
}

// answer is huma's form of a body.
type answer[O any] struct{ Body O }

// none is the input of operations without any.
type none struct{}

// open says that an operation of any role may be called by members and operators. The roles
// that later issues hand out get nothing here until somebody decides what they may.
func open(p forge.Principal) bool { return p.Role == forge.RoleMember || p.Role == forge.RoleOperator }

// operation registers an operation under /v1. It is the only way there: the principal comes
// out of the context, and without one nothing runs, however the request got here.
func operation[I, O any](s *server, op spec, do func(context.Context, forge.Principal, *I) (O, error)) {
	huma.Register(s.huma, op.huma(s, bodyFields(reflect.TypeFor[I]())), func(ctx context.Context, in *I) (*answer[O], error) {
		p, err := principal(ctx)
		if err != nil {
			return nil, s.fail(ctx, op.id, err)
		}
		out, err := do(ctx, p, in)
		if err != nil {
			return nil, s.fail(ctx, op.id, err)
		}
		return &answer[O]{Body: out}, nil
	})
}

// streaming registers an operation that writes its own body.
func streaming[I any](s *server, op spec, do func(context.Context, forge.Principal, *I) (func(huma.Context), error)) {
	huma.Register(s.huma, op.huma(s, nil), func(ctx context.Context, in *I) (*huma.StreamResponse, error) {
		p, err := principal(ctx)
		if err != nil {
			return nil, s.fail(ctx, op.id, err)
		}
		body, err := do(ctx, p, in)
		if err != nil {
			return nil, s.fail(ctx, op.id, err)
		}
		return &huma.StreamResponse{Body: body}, nil
	})
}

func principal(ctx context.Context) (forge.Principal, error) {
	in := requestOf(ctx)
	if in == nil || in.principal.Tenant == "" {
		return forge.Principal{}, errKey
	}
	if !open(in.principal) {
		return forge.Principal{}, forge.Errorf(forge.KindForbidden, "", "a key of role %s may not do this", in.principal.Role)
	}
	return in.principal, nil
}

func (op spec) huma(s *server, fields []string) huma.Operation {
	o := huma.Operation{
		OperationID: op.id, Method: op.method, Path: op.path, Tags: []string{op.tag},
		Summary: op.summary, Description: op.doc, Responses: op.responses,
		MaxBodyBytes: s.opts.MaxBody,
		// The body is in memory already (body.go), read under its own deadline. Huma's deadline
		// would stay on the connection and cancel the context of a handler that takes longer.
		BodyReadTimeout: -1,
		Metadata:        map[string]any{fieldsKey: fields},
	}
	if op.created {
		o.DefaultStatus = http.StatusCreated
	}
	kinds := op.errors
	if strings.HasPrefix(op.path, "/v1/") {
		o.Security = []map[string][]string{{"key": {}}}
		kinds = append([]forge.Kind{forge.KindUnauthorized, forge.KindForbidden, forge.KindUnavailable}, kinds...)
	}
	for _, k := range kinds {
		o.Errors = append(o.Errors, api.StatusOf(k))
	}
	if op.method == http.MethodPost {
		o.Errors = append(o.Errors, http.StatusRequestEntityTooLarge)
	}
	if len(o.Errors) == 0 {
		o.Errors = []int{http.StatusInternalServerError}
	}
	return o
}

// fieldsKey is where an operation keeps the names that its body may have.
const fieldsKey = "forge.fields"

// bodyFields lists the JSON names of the input's body, so that the refusal of an unknown
// one can name those that there are.
func bodyFields(in reflect.Type) []string {
	f, ok := in.FieldByName("Body")
	if !ok || f.Type.Kind() != reflect.Struct {
		return nil
	}
	var names []string
	for i := range f.Type.NumField() {
		name, _, _ := strings.Cut(f.Type.Field(i).Tag.Get("json"), ",")
		if name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}
