package server

import (
	"context"
	"io"
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// VersionInput names a version of a dataset.
type VersionInput struct {
	Name    string `path:"name" maxLength:"64" doc:"Name"`
	Version string `path:"version" pattern:"^([1-9][0-9]{0,8}|latest)$" doc:"Number of the version, or latest"`
}

func (in VersionInput) ref() forge.Ref {
	n, _ := strconv.Atoi(in.Version) // 0 for latest
	return forge.Ref{Name: in.Name, Number: n}
}

// FileInput is a file on its way: it is passed on as it comes and never held in memory.
type FileInput struct {
	SHA256 string `path:"sha256" pattern:"^[0-9a-f]{64}$" doc:"Of the body"`
	body   io.Reader
}

// Resolve implements huma.Resolver.
func (in *FileInput) Resolve(c huma.Context) []error {
	in.body = c.BodyReader()
	return nil
}

// RowsInput is an index of rows on its way.
type RowsInput struct {
	VersionInput
	SHA256 string `query:"sha256" required:"true" pattern:"^[0-9a-f]{64}$" doc:"Of the body"`
	body   io.Reader
}

// Resolve implements huma.Resolver.
func (in *RowsInput) Resolve(c huma.Context) []error {
	in.body = c.BodyReader()
	return nil
}

const versionPath = api.DatasetsPath + "/{name}/versions/{version}"

func (s *server) datasets() {
	added := s.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[api.DatasetAdded](), true, "DatasetAdded")
	acting(s, spec{
		id: "add-dataset", method: http.MethodPost, path: api.DatasetsPath, tag: "datasets", role: forge.RoleMember, created: true,
		summary: "Register a dataset version",
		doc: "Reads the files once on the server's host: digest, rows, columns, kind; or takes what somebody else's pass found. The data stays where it is, unless a copy is asked for. " +
			"Sizes are bytes. May take minutes for large data. Data that is registered under the name already answers 200 with that version.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindConflict, forge.KindNotFound, forge.KindPrecondition}, maxBody: api.MaxDatasetRequest,
		responses: map[string]*huma.Response{"200": {Description: "The version that this data is already", Content: map[string]*huma.MediaType{jsonType: {Schema: added}}}},
	}, func(ctx context.Context, p forge.Principal, in *struct{ Body api.AddDatasetRequest }) (api.DatasetAdded, error) {
		return s.Datasets.AddDataset(ctx, p, in.Body)
	}, func(ctx context.Context, p forge.Principal, id string) (api.DatasetAdded, error) {
		v, err := s.Datasets.DatasetVersion(ctx, p, id)
		return api.DatasetAdded{DatasetVersion: v}, err
	})
	operation(s, spec{
		id: "list-datasets", method: http.MethodGet, path: api.DatasetsPath, tag: "datasets", role: forge.RoleViewer,
		summary: "List datasets", doc: "By name, with their versions, without manifests, parents and reports.",
		errors: []forge.Kind{forge.KindInvalid},
	}, func(ctx context.Context, p forge.Principal, in *NamedInput) (api.List[forge.Dataset], error) {
		l, err := s.Datasets.Datasets(ctx, p, in.listing())
		return filled(l), err
	})
	operation(s, spec{
		id: "get-dataset", method: http.MethodGet, path: api.DatasetsPath + "/{name}", tag: "datasets", role: forge.RoleViewer,
		summary: "Show a dataset", doc: "With all versions, oldest first, deleted ones too; without the reports of their scans. Sizes are bytes.",
		errors: []forge.Kind{forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *nameInput) (forge.Dataset, error) {
		return s.Datasets.Dataset(ctx, p, in.Name)
	})
	s.datasetScans()
	s.datasetVersions()
	s.datasetData()
	s.ownedFiles()
}

func (s *server) datasetVersions() {
	operation(s, spec{
		id: "get-dataset-version", method: http.MethodGet, path: versionPath, tag: "datasets", role: forge.RoleViewer,
		summary: "Show a dataset version", doc: "With the report of its scan. Sizes are bytes.",
		errors: []forge.Kind{forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *VersionInput) (forge.DatasetVersion, error) {
		return s.Datasets.DatasetNumber(ctx, p, in.ref())
	})
	operation(s, spec{
		id: "edit-dataset", method: http.MethodPatch, path: versionPath, tag: "datasets", role: forge.RoleMember,
		summary: "Change what is said about a dataset version", doc: "Its licence and its description. What is not given stays; the data never changes. Each change is an event with what it was before. Members edit what they registered, admins all.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		VersionInput
		Body api.EditDatasetRequest
	}) (forge.DatasetVersion, error) {
		return s.Datasets.EditDataset(ctx, p, in.ref(), in.Body)
	})
	acting(s, spec{
		id: "delete-dataset", method: http.MethodPost, path: versionPath + "/delete", tag: "datasets", role: forge.RoleAdmin,
		summary: "Take a dataset version out of use",
		doc: "No run may use it any more; its digest, lineage and report stay. Refused while a run that has not ended or a model in production uses it. With purge the bytes of forge's own copy are erased. " +
			"Files that are referenced in place are never touched.",
		errors: []forge.Kind{forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		VersionInput
		Body *api.DeleteDatasetRequest
	}) (forge.DatasetVersion, error) {
		var r api.DeleteDatasetRequest
		if in.Body != nil {
			r = *in.Body
		}
		return s.Datasets.DeleteDataset(ctx, p, in.ref(), r)
	}, s.Datasets.DatasetVersion)
	acting(s, spec{
		id: "waive-dataset", method: http.MethodPost, path: versionPath + "/waive", tag: "datasets", role: forge.RoleAdmin,
		summary: "Take findings of personal data upon oneself", doc: "The version's PII status becomes waived, with who, when and why, for ever.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		VersionInput
		Body api.WaiveDatasetRequest
	}) (forge.DatasetVersion, error) {
		return s.Datasets.WaiveDataset(ctx, p, in.ref(), in.Body.Reason)
	}, s.Datasets.DatasetVersion)
	operation(s, spec{
		id: "get-dataset-lineage", method: http.MethodGet, path: versionPath + "/lineage", tag: "datasets", role: forge.RoleViewer,
		summary: "Say what a dataset version came from, or what came of it",
		doc:     "Upwards: the versions that it was made from, and theirs. Downwards: versions made from it, runs that used them, models that came of those or go on from them, and evals. The nearest first, as many as limit says.",
		errors:  []forge.Kind{forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		VersionInput
		Direction string `query:"direction" enum:"up,down" default:"up" doc:"up: what it came from; down: what came of it"`
		Limit     int    `query:"limit" minimum:"1" maximum:"10000" default:"1000" doc:"Nodes at most"`
	}) (forge.LineageGraph, error) {
		return s.Datasets.DatasetLineage(ctx, p, in.ref(), api.LineageQuery{Down: in.Direction == "down", Limit: in.Limit})
	})
	operation(s, spec{
		id: "get-dataset-impact", method: http.MethodGet, path: "/v1/dataset-impact", tag: "datasets", role: forge.RoleViewer,
		summary: "Say which models were trained on a row",
		doc: "By the SHA-256 of its texts. Rows are found by the first 64 bits of it: that a version of a hundred million rows is named wrongly has a chance of 1 in 180 billion. " +
			"Versions whose rows have not been indexed are named: they may hold it.",
		errors: []forge.Kind{forge.KindInvalid},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		Digest string `query:"digest" required:"true" pattern:"^[0-9a-f]{64}$" doc:"SHA-256 of the row's texts"`
	}) (forge.Impact, error) {
		return s.Datasets.DatasetImpact(ctx, p, in.Digest)
	})
}

func (s *server) datasetData() {
	acting(s, spec{
		id: "verify-dataset", method: http.MethodPost, path: versionPath + "/verify", tag: "datasets", role: forge.RoleMember,
		summary: "Hash the files of a dataset version again",
		doc:     "On the server's host; every file that differs is named. Sizes are bytes. May take minutes for large data. Changes nothing.",
		errors:  []forge.Kind{forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *VersionInput) (api.DatasetVerified, error) {
		return s.Datasets.VerifyDataset(ctx, p, in.ref())
	}, func(context.Context, forge.Principal, string) (api.DatasetVerified, error) {
		return api.DatasetVerified{}, nil // never: it makes nothing that could be remembered, and is done again
	})
	acting(s, spec{
		id: "add-dataset-file", method: http.MethodPost, path: api.DatasetFilesPath + "{sha256}", tag: "datasets", role: forge.RoleMember, created: true, upload: api.BytesType,
		summary: "Send a file for forge to keep",
		doc: "One file of a dataset that is then registered with copy. It is kept for the tenant under its digest, and removed after a day in which no version was made of it. " +
			"How many bytes it may have is limits.max_dataset_bytes of the site.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *FileInput) (api.DatasetFile, error) {
		return s.Datasets.AddDatasetFile(ctx, p, in.SHA256, in.body)
	}, s.Datasets.DatasetFile)
	acting(s, spec{
		id: "add-dataset-rows", method: http.MethodPost, path: versionPath + api.DatasetRowsEnd, tag: "datasets", role: forge.RoleMember, created: true, upload: api.BytesType,
		summary: "Send the fingerprints of a dataset version's rows",
		doc:     "The first 8 bytes of each row's digest, ascending, one after another. By them get-dataset-impact finds where a row is. Once they are there, they stay. Members do so for what they registered, admins for all.",
		errors:  []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *RowsInput) (api.DatasetRows, error) {
		return s.Datasets.AddDatasetRows(ctx, p, in.ref(), in.SHA256, in.body)
	}, func(ctx context.Context, p forge.Principal, id string) (api.DatasetRows, error) {
		v, err := s.Datasets.DatasetVersion(ctx, p, id)
		return api.DatasetRows{Name: v.Name + "@" + strconv.Itoa(v.Number), Rows: v.Rows}, err
	})
}
