// Package client speaks the API from the other side: the methods of api.Services without the
// principal, over a unix socket or HTTP. It is pure Go and imports neither huma nor cgo, so
// that forgectl stays one static file that starts at once.
//
// Errors come back as the forge.Error that the server had (kind, field, hint). What happens on
// the way there is said in the same form: nobody at the socket is KindUnavailable, with what to
// start; an answer that is not the API's is KindUnavailable, naming the address.
//
// Every method but Events is one request and never retries: the caller knows whether asking
// twice is harmless. Events reconnects by itself; see events.go.
package client
