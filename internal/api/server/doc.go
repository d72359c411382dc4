// Package server answers the operations of the API: huma v2 on net/http, OpenAPI 3.1 from the
// code. It knows HTTP, keys and problems; what the operations mean is behind api.Services.
//
//	request ─► record (id, log line, panic) ─► key ─► body (limit, own deadline) ─► huma: decode, validate ─► Services
//	                                                                                  └► Problem ◄─ forge.Error
//
// One file a noun. Every operation under /v1 goes through operation[…] in operation.go, which
// takes the principal out of the context and refuses to run without one: a route that slipped
// past authentication answers 401, not data.
//
// What must hold here:
//   - no text of an internal error leaves; it is in the log under the request id
//   - unknown body fields and query parameters are refused, naming the ones there are
//   - a stream of events misses nothing: see events.go
package server
