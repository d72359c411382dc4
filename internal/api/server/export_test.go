package server

import (
	"github.com/danielgtaylor/huma/v2"

	"github.com/forge-ml/forge-ml/internal/api"
)

// Describe gives tests the description as values.
func Describe(s api.Services, o Options) *huma.OpenAPI {
	_, d := build(s, o)
	return d
}
