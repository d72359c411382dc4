// Package api is the wire of forge-ml: what travels between forged and those who drive it.
// It holds values and interfaces only and imports the standard library and the nouns, so
// that forgectl can speak it without paying for a server.
//
//	services.go   what the operations need, one small interface a noun; internal/daemon implements them
//	access.go artifact.go listing.go queue.go run.go rundata.go site.go   what is asked and answered
//	wire.go       envelopes and slim forms that exist only on the wire
//	status.go     the one table Kind → HTTP status
//	problem.go    RFC 9457 problems: how a forge.Error crosses the wire and comes back the same
//	server/       the operations (huma, OpenAPI 3.1), authentication, SSE
//	client/       the same methods from the other side, pure Go
//	apitest/      Services in memory, for tests of both sides
//
// The JSON form of a noun is the noun's own: there are no copies of run, node or event here.
//
// Cursors. A listing answers {"items": […], "next": "…"}; next is absent on the last page and
// opaque: it holds the place after the last item and a digest of tenant, listing, filters and order, so
// that one of another listing is refused instead of answered with nonsense.
package api
