package server

import (
	"context"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// spec is an operation in short; operation makes huma's of it.
type spec struct {
	id, method, path, tag string
	summary, doc          string
	role                  forge.Role   // the least that may call it; every operation under /v1 says so
	created               bool         // answers 201
	errors                []forge.Kind // besides those that every operation may answer
	responses             map[string]*huma.Response
	upload                string // media type of a body that is passed on as it comes; empty: JSON
	maxBody               int64  // bytes of its body, where that is more than those of others
	once                  bool   // takes an Idempotency-Key
	open                  bool   // under /v1 and needs no key: it is how one comes by a key
}

// answer is huma's form of a body.
type answer[O any] struct {
	Status int
	Body   O
}

// reply is an answer with its status.
func reply[O any](op spec, out O) *answer[O] { return &answer[O]{Status: op.answers(out), Body: out} }

// answers says with which status: that of something made that was there already is another one.
func (op spec) answers(out any) int {
	if d, ok := out.(api.DatasetAdded); op.created && !(ok && d.Existed) {
		return http.StatusCreated
	}
	return http.StatusOK
}

// none is the input of operations without any.
type none struct{}

// operation registers an operation under /v1 that changes nothing. The principal comes out of the
// context, and without one of the role that the operation asks for nothing runs, however the
// request got here.
func operation[I, O any](s *server, op spec, do func(context.Context, forge.Principal, *I) (O, error)) {
	huma.Register(s.huma, op.huma(s, bodyFields(reflect.TypeFor[I]())), func(ctx context.Context, in *I) (*answer[O], error) {
		p, err := principal(ctx, op)
		if err != nil {
			return nil, s.fail(ctx, op.id, err)
		}
		out, err := do(ctx, p, in)
		if err != nil {
			return nil, s.fail(ctx, op.id, err)
		}
		return reply(op, out), nil
	})
}

// acting registers an operation that makes or changes something. A request that repeats an
// earlier one (Idempotency-Key) is not carried out again: again answers it, from the id that the first one left.
func acting[I, O any](s *server, op spec, do func(context.Context, forge.Principal, *I) (O, error), again func(ctx context.Context, p forge.Principal, ref string) (O, error)) {
	op.once = true
	operation(s, op, func(ctx context.Context, p forge.Principal, in *I) (O, error) {
		p.Once = requestOf(ctx).once(op.id)
		if p.Once.Key == "" {
			return do(ctx, p, in)
		}
		ref, err := s.Once.Earlier(ctx, p)
		var none O
		switch {
		case err != nil:
			return none, err
		case ref != "":
			requestOf(ctx).replayed = true
			return again(ctx, p, ref)
		}
		return do(ctx, p, in)
	})
}

// streaming registers an operation that writes its own body.
func streaming[I any](s *server, op spec, do func(context.Context, forge.Principal, *I) (func(huma.Context), error)) {
	huma.Register(s.huma, op.huma(s, nil), func(ctx context.Context, in *I) (*huma.StreamResponse, error) {
		p, err := principal(ctx, op)
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

func principal(ctx context.Context, op spec) (forge.Principal, error) {
	in := requestOf(ctx)
	if in == nil || in.principal.Tenant == "" {
		return forge.Principal{}, errKey
	}
	if !in.principal.Role.Includes(op.role) {
		return forge.Principal{}, forge.Errorf(forge.KindForbidden, "", "this needs the role %s; yours is %s", op.role, in.principal.Role).
			WithHint("forgectl whoami says who you are here; an admin of the tenant or an operator of the site can do it")
	}
	return in.principal, nil
}

func (op spec) huma(s *server, fields []string) huma.Operation {
	o := huma.Operation{
		OperationID: op.id, Method: op.method, Path: op.path, Tags: []string{op.tag},
		Summary: op.summary, Description: op.doc, Responses: op.responses,
		MaxBodyBytes: max(s.opts.MaxBody, op.maxBody),
		// The body is in memory already (body.go), read under its own deadline. Huma's deadline
		// would stay on the connection and cancel the context of a handler that takes longer.
		BodyReadTimeout: -1,
		Metadata:        map[string]any{fieldsKey: fields},
	}
	if op.upload != "" {
		o.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{op.upload: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}}
	}
	if op.created {
		o.DefaultStatus = http.StatusCreated
	}
	kinds := append([]forge.Kind{forge.KindInvalid, forge.KindInternal}, op.errors...)
	if strings.HasPrefix(op.path, "/v1/") {
		if !op.open && !op.role.Includes(forge.RoleViewer) {
			panic("operation " + op.id + " does not say which role it needs")
		}
		if !op.open {
			o.Extensions = map[string]any{RoleExtension: op.role}
			o.Security = []map[string][]string{{"key": {}}}
			o.Parameters = append(o.Parameters, tenantParam())
		}
		// Not found, wherever nothing is named: the tenant of X-Tenant-ID.
		kinds = append(kinds, forge.KindUnauthorized, forge.KindForbidden, forge.KindNotFound, forge.KindUnavailable)
		o.Errors = append(o.Errors, http.StatusTooManyRequests)
	}
	if op.once {
		o.Parameters = append(o.Parameters, onceParam())
		kinds = append(kinds, forge.KindConflict)
	}
	for _, k := range kinds {
		if status := api.StatusOf(k); !slices.Contains(o.Errors, status) {
			o.Errors = append(o.Errors, status)
		}
	}
	if op.method == http.MethodPost || op.method == http.MethodPatch {
		o.Errors = append(o.Errors, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	return o
}

// RoleExtension is where the description of an operation says which role it needs at least.
const RoleExtension = "x-forge-role"

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
